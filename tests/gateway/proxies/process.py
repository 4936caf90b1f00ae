"""The gateway in a process of its own, beside its proxies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.gateway.proxies.programs import GATEWAY_GRPC, GATEWAY_HTTP
from tests.support.fork_server import ROOT
from tests.support.waiting import wait_for

_PATIENCE = 40.0  # Seconds.
# The gateway waits four seconds for the service. Traefik waits 30 seconds for the gateway, and the
# other proxies wait five seconds.
CONFIG = """\
[authority]
address = "{authority}"
timeout = "4s"

[http]
listen = "127.0.0.1:{http}"

[grpc]
listen = "127.0.0.1:{grpc}"

[flow]
sign_in_url = "/sign-in"
trusted_proxies = ["127.0.0.1"]

[flow.cookies]
insecure = {insecure}

[devices]
path = "/account/devices"
"""


class GatewayProcess:
    """A gateway that can be stopped, continued, killed and started again."""

    def __init__(self, folder: Path, authority: str, ports: Mapping[int, int], insecure: bool):
        folder.mkdir(parents=True)
        self._folder = folder
        self._port = ports[GATEWAY_HTTP]
        text = CONFIG.format(
            authority=authority,
            http=self._port,
            grpc=ports[GATEWAY_GRPC],
            insecure=str(insecure).lower(),
        )
        (folder / "gateway.toml").write_text(text)

    def start(self) -> None:
        """Starts it, and waits until it is ready."""
        log = self._folder / "log.txt"
        command = "from session_authority.cli import main; main()"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", command, "gateway", "--config", "gateway.toml"],
                cwd=self._folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"},
            )

        def ready() -> bool:
            assert self._process.poll() is None, log.read_text()
            return self._is_ready()

        wait_for(ready, "the gateway to be ready", _PATIENCE)

    def _is_ready(self) -> bool:
        url = f"http://127.0.0.1:{self._port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
                return bool(response.status == 200)
        except urllib.error.URLError:
            return False

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Inside the block, the process is stopped."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Inside the block, there is no process."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def kill(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait(_PATIENCE)


@contextmanager
def running_gateway(
    folder: Path, authority: str, ports: Mapping[int, int], *, insecure: bool = False
) -> Iterator[GatewayProcess]:
    """A gateway that is ready. Its process is killed at the end of the block."""
    process = GatewayProcess(folder, authority, ports, insecure)
    process.start()
    try:
        yield process
    finally:
        process.kill()
