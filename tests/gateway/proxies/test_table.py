"""The table of cases, through each proxy with the shipped configuration."""

from __future__ import annotations

import pytest

from tests.gateway.proxies.cases import CASES, Case
from tests.gateway.proxies.judge import judge
from tests.gateway.proxies.raw_http import send
from tests.gateway.proxies.stage import Stage


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_proxy_gives_the_same_answers(stage: Stage, proxy: str, case: Case):
    port = stage.proxy(proxy)
    visit = case.visitor(stage.authority)
    body = b"\0\0\0\0\0" if case.method == "POST" else b""
    response = send(port, case.target, [*visit.headers, *case.more], method=case.method, body=body)
    judge(stage.upstream, response, visit.user, case.exceptions.get(proxy, case.outcome))
