"""`session-authority relay`, as an operator uses it: the real command, a real store, a real
endpoint.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import redis
import structlog
from typer.testing import CliRunner

from session_authority import cli
from session_authority.domain.events import Event, EventType
from session_authority.store import Deliveries, KeyNames, Limits, SessionStore, connect
from session_authority.store.key_names import partition
from session_authority.store.records import Commit
from tests.relay.receiver import Receiver
from tests.support.backends import ValkeyServer, valkey_server
from tests.support.commands import Command, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

PATIENCE = 40.0


@dataclass
class Office:
    """A store, an endpoint, and the file that names it."""

    folder: Path
    url: str
    receiver: Receiver
    endpoints: Path

    def relay(self, *arguments: str) -> CompletedProcess[str]:
        """Runs the command to its end."""
        return run(
            self.folder,
            "relay",
            *arguments,
            REDIS_URL=self.url,
            RELAY_ENDPOINTS=str(self.endpoints),
        )

    def happen(self, user: str, *reasons: str) -> None:
        """Something happens to a user."""

        async def write() -> None:
            store = SessionStore(connect(self.url, Limits()), KeyNames())
            for reason in reasons:
                now = datetime.now(UTC)
                event = Event(EventType.DEVICE_REVOKED, now, user, "tests", reason=reason)
                await store.commit(Commit(user, now, events=(event,)))
            await store.close()

        asyncio.run(write())

    def give_up(self, user: str, *reasons: str, endpoint: str = "mailer") -> list[str]:
        """Events that could not be delivered; their IDs."""

        async def put_aside() -> list[str]:
            deliveries = Deliveries(connect(self.url, Limits()), KeyNames())
            await deliveries.lease(partition(user), endpoint, "tests")
            await deliveries.start_group(partition(user), endpoint, None)
            await asyncio.to_thread(self.happen, user, *reasons)
            taken = await deliveries.take(partition(user), endpoint, "tests", 100)
            for event in taken:
                await deliveries.put_aside(
                    partition(user), endpoint, event, 7, "status 500", datetime.now(UTC)
                )
            await deliveries.release(partition(user), endpoint, "tests")
            await deliveries.close()
            return [event.event_id for event in taken]

        return asyncio.run(put_aside())


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def office(tmp_path: Path, valkey: ValkeyServer) -> Iterator[Office]:
    with Receiver().listening() as receiver:
        endpoints = tmp_path / "endpoints.toml"
        endpoints.touch(0o600)
        endpoints.write_text(receiver.toml())
        yield Office(tmp_path, valkey.url, receiver, endpoints)

        with redis.Redis.from_url(valkey.admin_url) as admin:
            admin.flushall()


def test_it_delivers_until_it_is_stopped(office: Office):
    settings = {"REDIS_URL": office.url, "RELAY_ENDPOINTS": str(office.endpoints)}
    relay = Command(office.folder / "relay", ["relay"], settings)
    try:
        relay.wait_for_event("relaying")
        wait_for(
            lambda: "64/64" in office.relay("status").stdout, "it to hold all partitions", PATIENCE
        )
        office.happen("ada", "a", "b", "c")
        wait_for(lambda: len(office.receiver.taken) == 3, "the events", PATIENCE)
        assert [event["data"]["reason"] for event in office.receiver.taken] == ["a", "b", "c"]
        header, row = office.relay("status").stdout.splitlines()
        assert header.split() == [
            "endpoint",
            "waiting",
            "under",
            "way",
            "dead",
            "relays",
            "partitions",
        ]
        assert row.split() == ["mailer", "0", "0", "0", "1", "64/64"]
        assert relay.terminate() == 0
        assert relay.events()[-1] == "stopped"
        assert relay.printed == ""
    finally:
        relay.kill()
    assert office.relay("status").stdout.splitlines()[1].split() == [
        "mailer",
        "0",
        "0",
        "0",
        "0",
        "0/64",
    ]


def test_what_is_dead_is_listed_sent_again_or_dropped(office: Office):
    assert "Nothing is dead." in office.relay("dead", "list").stderr
    first, second, third = office.give_up("ada", "a", "b", "[red]c[/red]")
    listed = office.relay("dead", "list").stdout.splitlines()
    assert listed[0].split() == [
        "endpoint",
        "event",
        "ID",
        "type",
        "user",
        "attempts",
        "reason",
        "given",
        "up",
    ]
    assert [line.split()[:7] for line in listed[1:]] == [
        ["mailer", event, "DEVICE_REVOKED", "ada", "7", "status", "500"]
        for event in (first, second, third)
    ]

    office.receiver.status = 500
    failed = office.relay("dead", "retry", first)
    assert (failed.returncode, failed.stdout) == (1, f"mailer {first}: status 500\n")
    assert len(office.relay("dead", "list").stdout.splitlines()) == 4

    office.receiver.status = 204
    sent = office.relay("dead", "retry", first)
    assert (sent.returncode, sent.stdout) == (0, f"mailer {first}: delivered\n")
    assert office.receiver.ids() == {first}
    dropped = office.relay("dead", "drop", second)
    assert (dropped.returncode, dropped.stdout) == (0, f"mailer {second}: dropped\n")
    rest = office.relay("dead", "retry", "--all")
    assert (rest.returncode, rest.stdout) == (0, f"mailer {third}: delivered\n")
    assert "Nothing is dead." in office.relay("dead", "list").stderr
    assert office.receiver.ids() == {first, third}


def test_what_an_endpoint_that_is_named_no_more_left_can_be_dropped(office: Office):
    [event] = office.give_up("ada", "a", endpoint="gone")
    assert "Nothing is dead." in office.relay("dead", "list").stderr
    assert event in office.relay("dead", "list", "--endpoint", "gone").stdout
    retry = office.relay("dead", "retry", "--all", "--endpoint", "gone")
    assert (retry.returncode, retry.stderr) == (
        2,
        "session-authority: --endpoint: the file names no 'gone'\n",
    )
    assert (
        office.relay("dead", "drop", "--all", "--endpoint", "gone").stdout
        == f"gone {event}: dropped\n"
    )


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_what_to_do_must_be_said(
    office: Office, says: Callable[..., tuple[int, list[str]]], verb: str
):
    settings = {"REDIS_URL": office.url, "RELAY_ENDPOINTS": str(office.endpoints)}
    for arguments in ((), ("--all", "evt_1")):
        assert says("dead", verb, *arguments, **settings) == (2, ["name the events, or give --all"])
    unknown = ["evt_0: is not among the dead", "evt_1: is not among the dead"]
    assert says("dead", verb, "evt_1", "evt_0", **settings) == (1, unknown)


def test_a_secret_is_made(office: Office):
    first, second = (office.relay("secret").stdout.strip() for _ in range(2))
    assert first != second
    office.endpoints.write_text(
        f'[[endpoint]]\nname = "x"\nurl = "https://x.example"\nsecrets = ["{first}"]\n'
    )
    assert office.relay("status").returncode == 0


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    """What the command says, run in this process: its exit code, and the lines of an error."""
    for name in os.environ:
        if name.startswith("SESSION_AUTHORITY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: str, **settings: str) -> tuple[int, list[str]]:
        environment = {f"SESSION_AUTHORITY_{name}": value for name, value in settings.items()}
        result = CliRunner().invoke(cli.app, ["relay", *arguments], env=environment)
        return result.exit_code, [
            line.removeprefix("session-authority: ") for line in result.stderr.splitlines()
        ]

    yield call
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "command", [(), ("status",), ("dead", "list"), ("dead", "drop", "--all")], ids="-".join
)
def test_what_is_missing_or_wrong_is_said(
    says: Callable[..., tuple[int, list[str]]], tmp_path: Path, command: tuple[str, ...]
):
    url, endpoints = "redis://127.0.0.1:1", tmp_path / "endpoints.toml"
    assert says(*command) == (2, ["SESSION_AUTHORITY_REDIS_URL: must be set"])
    rule = "SESSION_AUTHORITY_RELAY_ENDPOINTS: must name the file of endpoints, or give --endpoints"
    assert says(*command, REDIS_URL=url) == (2, [rule])
    code, [line] = says(*command, REDIS_URL="redis://:secret@", RELAY_ENDPOINTS=str(endpoints))
    assert code == 2
    assert line.startswith("SESSION_AUTHORITY_REDIS_URL: ")
    assert "secret" not in line
    endpoints.touch(mode=0o600)
    endpoints.write_text(
        '[[endpoint]]\nname = "A"\nurl = "http://example.com"\nsecrets = ["whsec_hunter2"]\n'
    )
    code, lines = says(*command, REDIS_URL=url, RELAY_ENDPOINTS=str(endpoints))
    assert (code, len(lines)) == (2, 3)
    assert "hunter2" not in "".join(lines)


def test_options_stand_where_they_belong(office: Office):
    result = office.relay("--endpoints", str(office.endpoints), "status")
    assert (result.returncode, result.stderr) == (
        2,
        "session-authority: give --endpoints after status\n",
    )


def test_a_redis_that_is_away_is_said(office: Office):
    url = f"redis://127.0.0.1:{free_port()}"
    for command in (("status",), ("dead", "list")):
        result = run(
            office.folder, "relay", *command, REDIS_URL=url, RELAY_ENDPOINTS=str(office.endpoints)
        )
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == "session-authority: Redis does not answer"
        assert "Traceback" not in result.stderr


def test_a_relay_waits_for_a_redis_that_is_away(office: Office, tmp_path: Path):
    port = free_port()
    settings = {"REDIS_URL": f"redis://127.0.0.1:{port}", "RELAY_ENDPOINTS": str(office.endpoints)}
    relay = Command(office.folder / "relay", ["relay"], settings)
    try:
        relay.wait_for_event("store_unavailable")
        assert relay.process.poll() is None
        assert relay.terminate() == 0
    finally:
        relay.kill()
