"""The README as text: its sections, and the blocks of code in them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.backends import free_port, wait_for

PROJECT = Path(__file__).parents[2]
CHECKOUT = PROJECT.parents[1]
PATIENCE = 40.0  # seconds
TEXT = (PROJECT / "README.md").read_text("utf-8")
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code. `mark` is what the comment before it says; empty if there is none."""

    mark: str
    language: str
    code: str


BLOCKS = [Block(*found) for found in _BLOCK.findall(TEXT)]


def section(name: str) -> str:
    """What is below a heading, down to the next of its kind."""
    heading = re.search(rf"^(##+) {re.escape(name)}\n", TEXT, re.MULTILINE)
    assert heading, f"there is no section {name}"
    below = TEXT[heading.end() :]
    end = re.search(rf"^#{{2,{len(heading[1])}}} ", below, re.MULTILINE)
    return below[: end.start()] if end else below


def blocks(name: str, language: str) -> list[str]:
    """The code of a section in one language."""
    return [found[2] for found in _BLOCK.findall(section(name)) if found[1] == language]


# The section of each example.
EXAMPLES: Mapping[str, str] = {"fastapi": "FastAPI and Starlette", "flask": "Flask", "django": "Django"}


@contextmanager
def served(name: str, folder: Path, authority: str, arguments: str = "", **environment: str) -> Iterator[int]:
    """Does what the README says to serve an example, but for installing what is there; at which port it serves."""
    (shell,) = blocks(EXAMPLES[name], "sh")
    lines = shell.splitlines()
    assert lines[0].startswith("pip install ./clients/python ")
    *before, command = lines[1:]
    port = free_port()
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-euc", "\n".join([*before, f"exec {command} {arguments}"])],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
                "PYTHONPATH": str(PROJECT),
                "AUTHORITY": authority,
                "UVICORN_PORT": str(port),
                "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port}",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    scheme = "https" if arguments else "http"

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            answer = httpx.get(f"{scheme}://localhost:{port}/sign-in", verify=False, timeout=PATIENCE)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    try:
        wait_for(ready, f"{name} to serve", PATIENCE)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
