"""A primary with a replica that can be held back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.support.backends import Backend
from tests.support.waiting import wait_for


@dataclass(frozen=True)
class Pair:
    """A primary, and the replica that follows it."""

    primary: Backend
    replica: Backend

    @contextmanager
    def replica_stands_still(self) -> Iterator[None]:
        """Inside the block, the replica receives nothing."""
        with redis.Redis.from_url(self.replica.admin_url) as admin:
            process = admin.info("server")["process_id"]
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)


@contextmanager
def replicated(
    start: Callable[[Path], AbstractContextManager[Backend]], folder: Path
) -> Iterator[Pair]:
    """Two servers of a kind, one of which follows the other."""
    for name in ("primary", "replica"):
        (folder / name).mkdir()
    with start(folder / "primary") as primary, start(folder / "replica") as replica:
        _follow(replica.admin_url, primary.admin_url)
        yield Pair(primary, replica)


def _follow(replica: str, primary: str) -> None:
    with redis.Redis.from_url(primary) as leads, redis.Redis.from_url(replica) as follows:
        leads.config_set("repl-diskless-sync-delay", 0)
        follows.replicaof("127.0.0.1", leads.get_connection_kwargs()["port"])
        wait_for(lambda: is_in_step(follows), "the replica to follow")


def is_in_step(replica: redis.Redis) -> bool:
    """Returns whether the replica has everything that its primary had when the replica began to
    follow.
    """
    return bool(replica.info("replication").get("master_link_status") == "up")
