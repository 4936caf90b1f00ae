"""The README's own grpcurl lines, pasted as they stand, against a server that `make run` would
start.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import missing
from tests.support.dev import dev_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def life() -> str:
    """The shell lines of the section, in order."""
    section = README.partition("<!-- life: begin -->")[2].partition("<!-- life: end -->")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def expected() -> list[str]:
    """What the README says behind its lines that they print."""
    promises: list[str] = []
    for comment in re.findall(r"  # (.*)", life()):
        promises += re.findall(r'SESSION_STATUS_\w+|"[^"]+"(?:: "?\w+"?)?', comment)
    return promises


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    settings = dict(re.findall(r"(SESSION_AUTHORITY_\w+) \?= (\S+)", MAKEFILE))
    assert settings, "make run sets short intervals, of which the README tells"
    with dev_server(tmp_path / "data", settings) as server:
        yield server.address


def test_life_goes_as_the_readme_tells(address: str) -> None:
    if not list(ROOT.glob(".tools/bin/grpcurl-v*")):
        missing("grpcurl (`make grpcurl` builds it)")
    run = subprocess.run(
        ["bash", "-eu", "-c", life()],
        cwd=ROOT,
        env={**os.environ, "ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    rest = _plain(run.stdout)
    for promise in expected():
        assert _plain(promise) in rest, (
            f"{promise} is not in what follows:\n{rest}\nerrors:\n{run.stderr}"
        )
        if promise.startswith("SESSION_STATUS"):
            rest = rest.partition(_plain(promise))[2]


def test_readme_promises_a_whole_life() -> None:
    statuses = [promise for promise in expected() if promise.startswith("SESSION_STATUS")]
    assert [status.removeprefix("SESSION_STATUS_") for status in statuses] == [
        "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "SUPERSEDED", "REPLAYED", "NO_SESSION",
        "NO_SESSION", "SESSION_ENDED", "ACTIVE", "NO_SESSION",
    ]  # fmt: skip


def _plain(text: str) -> str:
    """Without what tells grpcurl's versions apart: `deviceId` or `device_id`."""
    return text.replace("_", "").lower()
