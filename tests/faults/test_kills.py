"""Whichever process is killed, and whenever: every event is delivered, to watchers and to
endpoints, and repeats have the same ID.

TEST_BUDGET=50 kills 200 times, with 10,000 events.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Semaphore
from uuid import uuid4

import grpc
import pytest
import redis

from session_authority.internal.v1 import records_pb2
from session_authority.store import KeyNames
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import entry_id, event_id
from session_authority.v1 import session_authority_pb2 as pb
from tests.relay.receiver import Receiver
from tests.support.backends import valkey_server
from tests.support.budget import budget
from tests.support.commands import Caller, Command, environment, run
from tests.support.fork_server import ForkedProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

KILLS, EVENTS = budget(4), budget(200)
USERS = 50
PATIENCE = 120.0


class Cast:
    """The processes that may be killed, each started again at once."""

    def __init__(self, folder: Path, url: str, receiver: Receiver) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.told, self._cursor = folder / "told.txt", folder / "cursor"
        endpoints = folder / "endpoints.toml"
        endpoints.touch(0o600)
        endpoints.write_text(receiver.toml(timeout='"5s"'))
        assert (
            run(folder, "keys", "generate", "--promote", "--dir", str(folder / "keys")).returncode
            == 0
        )
        self._settings = {
            "REDIS_URL": url,
            "KEYS": str(folder / "keys"),
            "ALLOW_UNSAFE": "open-access,volatile-store",
            "LISTEN": self.address,
            "RELAY_ENDPOINTS": str(endpoints),
        }
        self._living: dict[str, subprocess.Popen[bytes] | ForkedProcess] = {}
        for name in ("server", "watcher", "relay", "other relay"):
            self._start(name)

    def _start(self, name: str) -> None:
        if name == "watcher":
            command = [
                sys.executable,
                "-m",
                "tests.faults.watcher",
                self.address,
                str(self.told),
                str(self._cursor),
            ]
            out = (self._folder / "watcher.txt").open("ab")
            with out:
                self._living[name] = subprocess.Popen(
                    command,
                    env=environment(self._folder),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
        else:
            arguments = ["serve"] if name == "server" else ["relay"]
            self._living[name] = Command(
                self._folder / name.replace(" ", "-"), arguments, self._settings
            ).process

    def kill(self, name: str) -> None:
        """Kills a process and starts it again."""
        self._living[name].kill()
        self._living[name].wait(10)
        self._start(name)

    @property
    def names(self) -> list[str]:
        """The names of all processes."""
        return list(self._living)

    def is_watching(self) -> bool:
        """Returns whether the watcher has got its first cursor."""
        return self._cursor.exists()

    def told_lines(self) -> list[tuple[str, str]]:
        """The events that the watcher got, with their users, in order. A line that the watcher is
        still writing is left out.
        """
        *lines, _ = self.told.read_text().split("\n") if self.told.exists() else [""]
        return [(line.split()[0], line.split()[1]) for line in lines]

    def end(self) -> None:
        """Ends all processes."""
        for process in self._living.values():
            process.kill()
            process.wait(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver


def sign_in_and_out(address: str, user: str, times: int, permits: Semaphore) -> None:
    """Makes two events for each permit; a call that fails is repeated until it is answered."""
    with Caller(address) as caller:

        def call(method: str, request: object) -> None:
            def answered() -> bool:
                try:
                    getattr(caller.stub, method)(request, timeout=5, wait_for_ready=True)
                except grpc.RpcError:
                    return False
                return True

            wait_for(answered, f"{method} to be answered", PATIENCE)

        for _ in range(times):
            assert permits.acquire(timeout=PATIENCE)
            call("IssueDevice", pb.IssueDeviceRequest(user_id=user, request_id=str(uuid4())))
            call("RevokeAll", pb.RevokeAllRequest(user_id=user, reason="again"))


def happened(url: str) -> dict[str, list[str]]:
    """The log: for each user the events, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    keys = KeyNames()
    with redis.Redis.from_url(url) as client:
        for number in range(PARTITIONS):
            for raw, fields in client.xrange(keys.stream(number)):
                user = records_pb2.EventRecord.FromString(fields[b"event"]).user_id
                found[user].append(event_id(number, entry_id(raw)))
    return dict(found)


def first_times(lines: list[tuple[str, str]]) -> dict[str, list[str]]:
    """For each user the events in the order of their first arrival."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for event, user in lines:
        if event not in found[user]:
            found[user].append(event)
    return dict(found)


def test_every_event_is_delivered_whichever_process_is_killed(tmp_path: Path, receiver: Receiver):
    chance = random.Random(os.environ.get("KILL_SEED", "7"))
    with ExitStack() as stack:
        valkey = stack.enter_context(valkey_server(tmp_path / "valkey"))
        cast = Cast(tmp_path, valkey.url, receiver)
        stack.callback(cast.end)
        wait_for(cast.is_watching, "the watcher to watch", PATIENCE)
        with redis.Redis.from_url(valkey.admin_url) as client:
            groups = [KeyNames().lease(number, "mailer") for number in range(PARTITIONS)]
            wait_for(
                lambda: client.exists(*groups) == PARTITIONS,
                "the relays to share the partitions",
                PATIENCE,
            )
        pool = stack.enter_context(ThreadPoolExecutor(USERS))
        times, permits = -(-EVENTS // (2 * USERS)), Semaphore(0)
        work = [
            pool.submit(sign_in_and_out, cast.address, f"user-{number}", times, permits)
            for number in range(USERS)
        ]
        for number in range(KILLS):
            # Before each kill, the endpoint and the watcher have got at least one event since the
            # last kill, and more events are on their way.
            delivered, told = len(receiver.ids()), len(cast.told_lines())
            more = chance.randint(1, max(EVENTS // KILLS // 2, 1))
            permits.release(-(-USERS * times // KILLS))
            wait_for(
                lambda goal=delivered + more: len(receiver.ids()) >= goal,  # type: ignore[misc]
                "the endpoint to get more",
                PATIENCE,
            )
            wait_for(
                lambda goal=told: len(cast.told_lines()) > goal,  # type: ignore[misc]
                "the watcher to be told more",
                PATIENCE,
            )
            cast.kill(cast.names[number % 4] if number < 4 else chance.choice(cast.names))
        for done in work:
            done.result()
        expected = happened(valkey.admin_url)
        everything = {event for events in expected.values() for event in events}
        assert len(everything) >= EVENTS
        wait_for(lambda: receiver.ids() >= everything, "the endpoint to get all", PATIENCE)
        wait_for(
            lambda: {event for event, _ in cast.told_lines()} >= everything,
            "the watcher to be told all",
            PATIENCE,
        )
        assert first_times(cast.told_lines()) == expected
        assert receiver.by_user() == expected
        bodies: dict[str, dict[str, object]] = {}
        for event in receiver.attempts:
            assert bodies.setdefault(event["id"], event) == event, "a repeat says the same"
