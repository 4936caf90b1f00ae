"""The first minutes of a newcomer: the README's two commands, and docs/getting_started.md. The app
of that page is the app that the client's tests serve and use.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from session_authority.console.connection import Target, health
from session_authority.runtime.addresses import Listen
from tests.support.ports import free_port
from tests.support.shells import blocks
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGE = (ROOT / "docs" / "getting_started.md").read_text("utf-8")
CLIENT = ROOT / "clients" / "python"
PATIENCE_SECONDS = 120


def variables(arguments: str) -> dict[str, str]:
    """The environment in which `make` gives a target these arguments. The arguments of the `make`
    that runs this test are left out.
    """
    dropped = ("SESSION_AUTHORITY_", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return {**kept, "ARGS": arguments}


@pytest.mark.one_acceptor
@pytest.mark.slow
def test_the_two_commands_of_the_readme_show_the_life_of_a_session(tmp_path: Path):
    run, demo = blocks(README)
    address = f"127.0.0.1:{free_port()}"
    log = tmp_path / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            ["bash", "-euc", run],
            cwd=ROOT,
            env=variables(f"--listen {address} --data-dir {tmp_path / 'data'}"),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )

    def ready() -> bool:
        assert server.poll() is None, log.read_text()
        return health(Target(Listen.parse(address)), 1.0) == "SERVING"

    try:
        wait_for(ready, "make run to serve", PATIENCE_SECONDS)
        told = subprocess.run(
            ["bash", "-euc", demo],
            cwd=ROOT,
            env=variables(f"--address {address}"),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE_SECONDS)
    assert (told.returncode, told.stderr) == (0, "")
    for word in ("SUPERSEDED", "REPLAYED", "SESSION_ENDED"):
        assert word in told.stdout


@pytest.mark.one_acceptor
def test_getting_started_begins_with_the_two_commands_of_the_readme():
    assert blocks(PAGE)[:2] == blocks(README)


@pytest.mark.one_acceptor
def test_the_app_of_getting_started_is_the_one_that_is_tested():
    """`client_tests.test_examples` runs these lines of the client's README with this app."""
    [served] = [
        block
        for block in blocks((CLIENT / "README.md").read_text("utf-8"))
        if "fastapi_app" in block
    ]
    [shown] = [block for block in blocks(PAGE) if "fastapi_app" in block]
    assert shown.endswith(served)
    code = re.findall(r"<!-- from (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code) == PAGE.count("```python")
    for name, part in code:
        assert part.rstrip() in (CLIENT / name).read_text("utf-8")


@pytest.mark.one_acceptor
def test_the_wheel_has_what_the_lines_of_the_page_install():
    [lines] = [block for block in blocks(PAGE) if "make wheel" in block]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in re.findall(r"\[(\w+)\]\"$", lines, re.MULTILINE):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert "$(bin)/python -m build --wheel" in (ROOT / "Makefile").read_text("utf-8")
