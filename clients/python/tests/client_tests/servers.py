"""Real servers on one store. Each is a process that can be stopped, killed and started again on its
port.

python -m client_tests.servers REDIS_URL KEYS PORT runs one until its input ends
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from session_authority.console.connection import Target, health
from session_authority.processes.options import Mode
from session_authority.processes.serve import running
from session_authority.runtime.addresses import Listen
from session_authority.runtime.settings import Settings
from tests.support.ports import free_port
from tests.support.waiting import wait_for

_ROOT = Path(__file__).parents[4]


class Server:
    """A server in a process of its own."""

    def __init__(self, url: str, keys: Path) -> None:
        self._command = [sys.executable, "-m", __spec__.name, url, str(keys)]
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Starts the server, also again after a kill, and waits until it serves."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("SESSION_AUTHORITY_")
        }
        self.process = subprocess.Popen(
            [*self._command, str(self._port)],
            cwd=_ROOT,
            env=environment
            | {"PYTHONPATH": os.pathsep.join(map(str, (_ROOT, Path(__file__).parents[1])))},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(
            lambda: health(Target(Listen.parse(self.address)), 1.0) == "SERVING",
            "the server to serve",
            40,
        )

    def kill(self) -> None:
        """Kills the server in any state."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def server(url: str, keys: Path) -> Iterator[Server]:
    """Runs a server that is killed at the end."""
    made = Server(url, keys)
    try:
        yield made
    finally:
        made.kill()


async def _serve(url: str, keys: Path, port: int) -> None:
    settings = Settings(redis_url=url, keys=keys, listen=Listen("127.0.0.1", port))
    async with running(settings, Mode(reflection=False)):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
