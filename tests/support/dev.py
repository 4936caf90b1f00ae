"""A real development server, as a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from session_authority.console.connection import Target, health
from session_authority.runtime.addresses import Listen
from tests.support.fork_server import ForkedProcess, start_command
from tests.support.ports import free_port
from tests.support.waiting import wait_for


@dataclass
class DevServer:
    """The server's process, address and output."""

    process: ForkedProcess
    address: str
    log: Path

    def serving(self) -> bool:
        """Returns whether the server answers, and has its store."""
        return health(Target(Listen.parse(self.address)), 1.0) == "SERVING"


def start_dev_server(
    data_dir: Path, settings: Mapping[str, str] | None = None, port: int | None = None
) -> DevServer:
    """Starts a server in a process group of its own and waits until it serves. `settings` have the
    whole names of variables.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port or free_port()}"
    log = data_dir / "server.log"
    environment = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("SESSION_AUTHORITY_") or k == "SESSION_AUTHORITY_ACCEPTOR"
    } | dict(settings or {})
    with log.open("ab") as out:
        arguments = ["dev", "--listen", address, "--data-dir", str(data_dir)]
        process = start_command(arguments, data_dir, environment, out.fileno(), out.fileno())
    server = DevServer(process, address, log)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        return server.serving()

    wait_for(ready, "the dev server to serve", 60)
    return server


@contextmanager
def dev_server(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[DevServer]:
    """A server that is stopped in order at the end."""
    server = start_dev_server(data_dir, settings)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
