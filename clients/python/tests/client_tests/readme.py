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

from tests.support.ca import Pair
from tests.support.ports import free_port
from tests.support.waiting import wait_for

PROJECT = Path(__file__).parents[2]
PATIENCE = 40.0  # seconds
TEXT = (PROJECT / "README.md").read_text("utf-8")
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code. `mark` is the text of the comment before it, or empty."""

    mark: str
    language: str
    code: str


BLOCKS = [Block(*found) for found in _BLOCK.findall(TEXT)]


def section(name: str) -> str:
    """Returns the text below a heading, up to the next heading of the same or a higher level."""
    heading = re.search(rf"^(##+) {re.escape(name)}\n", TEXT, re.MULTILINE)
    assert heading, f"there is no section {name}"
    below = TEXT[heading.end() :]
    end = re.search(rf"^#{{2,{len(heading[1])}}} ", below, re.MULTILINE)
    return below[: end.start()] if end else below


def blocks(name: str, language: str) -> list[str]:
    """Returns the blocks of code of a section in one language."""
    return [found[2] for found in _BLOCK.findall(section(name)) if found[1] == language]


# The README's section of each example.
EXAMPLES: Mapping[str, str] = {
    "fastapi": "FastAPI and Starlette",
    "flask": "Flask",
    "django": "Django",
}
# The example that serves no pages.
GRPC_SECTION = "gRPC servers"


def example(name: str) -> str:
    """Returns the code of an example, with a longer timeout for each call, because a machine may be
    busy.
    """
    code = (PROJECT / "examples" / f"{name}_app.py").read_text("utf-8")
    patient, changes = re.subn(
        r"(SessionAuthority\(AUTHORITY)", r"\1, timeout=timedelta(seconds=20)", code
    )
    assert changes == 1
    return f"from datetime import timedelta\n\n{patient}"


@contextmanager
def served(
    name: str, code: str, folder: Path, authority: str, tls: Pair | None = None
) -> Iterator[int]:
    """Serves an example with the commands of the README, but without installing packages. Yields
    the port.

    The folder stands for a checkout, and contains only this code of the example.
    """
    examples = folder / "clients" / "python" / "examples"
    examples.mkdir(parents=True)
    (examples / f"{name}_app.py").write_text(code, "utf-8")
    (shell,) = blocks(EXAMPLES[name], "sh")
    lines = shell.splitlines()
    assert lines[0].startswith('pip install "./clients/python[devices]" ')
    *before, command = lines[1:]
    port = free_port()
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-euc", "\n".join([*before, f"exec {command}"])],
            cwd=folder,
            env={
                **os.environ,
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
                "PYTHONPATH": str(PROJECT),
                "AUTHORITY": authority,
                **_settings(port, tls),
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    scheme = "https" if tls else "http"

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            answer = httpx.get(
                f"{scheme}://localhost:{port}/sign-in", verify=False, timeout=PATIENCE
            )
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


def _settings(port: int, tls: Pair | None) -> Mapping[str, str]:
    """Returns the settings of both servers: their address and their certificate."""
    uvicorn, gunicorn = {"UVICORN_PORT": str(port)}, [f"--bind=127.0.0.1:{port}"]
    if tls is not None:
        uvicorn |= {
            "UVICORN_SSL_CERTFILE": str(tls.certificate),
            "UVICORN_SSL_KEYFILE": str(tls.key),
        }
        gunicorn += [f"--certfile={tls.certificate}", f"--keyfile={tls.key}"]
    return {**uvicorn, "GUNICORN_CMD_ARGS": " ".join(gunicorn)}
