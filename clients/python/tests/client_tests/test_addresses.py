"""Client addresses behind proxies, by the cases that the clients of all languages share."""

from __future__ import annotations

import pytest

from client_tests.vectors import Case, each, flow_of, headers_of
from session_authority_client._shared.proxies import Proxies


@each("addresses", "address")
def test_only_trusted_proxies_are_believed(case: Case) -> None:
    given, headers = case.given, headers_of(case.given["headers"])
    proxies = Proxies(case.settings["trusted_proxies"])
    secure = proxies.is_secure(headers, given["peer"], given["scheme"])
    found = {"ip_address": proxies.address(headers, given["peer"]), "secure": secure}
    assert found == case.expected


@each("addresses", "configure")
def test_the_setting_of_trusted_proxies_is_checked(case: Case) -> None:
    if case.expected["error"] is None:
        flow_of(case.settings)
    else:
        with pytest.raises(ValueError, match=r"^trusted_proxies: "):
            flow_of(case.settings)
