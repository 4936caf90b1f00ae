"""The grpcurl lines of docs/session_life.md, pasted unchanged into each shell, with a server as
`make run` starts it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.backends import missing
from tests.support.dev import dev_server
from tests.support.shells import SHELLS, WHOLE, Pasted, blocks, require

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "session_life.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def section() -> str:
    """The section about a session's life."""
    return PAGE.partition("<!-- life: begin -->")[2].partition("<!-- life: end -->")[0]


def expected() -> list[str]:
    """The output that the page shows below its blocks."""
    promises: list[str] = []
    for shown in re.findall(r"```text\n(.*?)```", section(), re.DOTALL):
        promises += re.findall(r'SESSION_STATUS_\w+|"[^"]+"(?:: "?\w+"?)?', shown)
    return promises


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pasted]]:
    """A session's life in each shell of this machine: all at once, as each life waits for half a
    minute.
    """
    if not list(ROOT.glob(".tools/bin/grpcurl-v*")):
        missing("grpcurl (`make grpcurl` builds it)")
    settings = dict(re.findall(r"(SESSION_AUTHORITY_\w+) \?= (\S+)", MAKEFILE))
    assert settings, "make run sets the short intervals that the page names"
    folder = tmp_path_factory.mktemp("lives")
    with ExitStack() as stack:
        under_way: dict[str, Pasted] = {}
        for shell in SHELLS:
            server = stack.enter_context(dev_server(folder / shell, settings))
            environment = {**os.environ, "ADDRESS": server.address}
            text = "\n".join(blocks(section()))
            try:
                require(shell)
            except pytest.skip.Exception:
                continue
            life = Pasted(shell, text, ROOT, environment, folder / shell, strict=True)
            stack.callback(life.process.kill)
            under_way[shell] = life
        yield under_way


@pytest.mark.parametrize("shell", SHELLS)
def test_the_life_of_a_session_is_as_the_page_says(lives: dict[str, Pasted], shell: str) -> None:
    require(shell)
    told = lives[shell].wait(180)
    rest = lives[shell].printed
    assert WHOLE in rest, told
    assert "not found" not in told
    for promise in expected():
        assert promise in rest, f"{promise} is not in what follows:\n{rest}\nall:\n{told}"
        if promise.startswith("SESSION_STATUS"):
            rest = rest.partition(promise)[2]


def test_the_page_shows_a_whole_life() -> None:
    statuses = [promise for promise in expected() if promise.startswith("SESSION_STATUS")]
    assert [status.removeprefix("SESSION_STATUS_") for status in statuses] == [
        "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "SUPERSEDED", "REPLAYED", "NO_SESSION",
        "NO_SESSION", "SESSION_ENDED", "ACTIVE", "NO_SESSION",
    ]  # fmt: skip
