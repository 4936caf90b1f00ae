"""`session-authority relay`, as an operator uses it: the real command, a real store, a real
endpoint.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from typer.testing import Result

from session_authority.domain.events import Event, EventType
from session_authority.store import Deliveries, KeyNames, Limits, SessionStore, connect
from session_authority.store.key_names import partition
from session_authority.store.records import Commit
from tests.cli.harness import call
from tests.relay.receiver import Receiver
from tests.support.backends import ValkeyServer, valkey_server
from tests.support.commands import Command, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 40.0  # for conditions that hold eventually


@dataclass
class Harness:
    """A store, an endpoint, and the file that names the endpoint."""

    folder: Path
    url: str
    receiver: Receiver
    endpoints: Path

    def relay(self, *arguments: object) -> Result:
        """Runs the command to its end, in this process."""
        return call("relay", *arguments, REDIS_URL=self.url, RELAY_ENDPOINTS=self.endpoints)

    def happen(self, user: str, *reasons: str) -> None:
        """Writes one event of the user for each reason."""

        async def write() -> None:
            store = SessionStore(connect(self.url, Limits()), KeyNames())
            for reason in reasons:
                now = datetime.now(UTC)
                event = Event(EventType.DEVICE_REVOKED, now, user, "tests", reason=reason)
                await store.commit(Commit(user, now, events=(event,)))
            await store.close()

        asyncio.run(write())

    def give_up(self, user: str, *reasons: str, endpoint: str = "mailer") -> list[str]:
        """Writes events, and puts them aside as undeliverable. Returns their IDs."""

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
def harness(tmp_path: Path, valkey: ValkeyServer) -> Iterator[Harness]:
    with Receiver().listening() as receiver:
        endpoints = tmp_path / "endpoints.toml"
        endpoints.touch(0o600)
        endpoints.write_text(receiver.toml())
        yield Harness(tmp_path, valkey.url, receiver, endpoints)

        with redis.Redis.from_url(valkey.admin_url) as admin:
            admin.flushall()


def test_the_relay_delivers_events_until_it_is_stopped(harness: Harness):
    settings = {"REDIS_URL": harness.url, "RELAY_ENDPOINTS": str(harness.endpoints)}
    relay = Command(harness.folder / "relay", ["relay"], settings)
    try:
        relay.wait_for_event("relaying")
        wait_for(
            lambda: "64/64" in harness.relay("status").stdout,
            "the relay to hold all partitions",
            DEADLINE_SECONDS,
        )
        harness.happen("ada", "a", "b", "c")
        wait_for(lambda: len(harness.receiver.taken) == 3, "the events", DEADLINE_SECONDS)
        assert [event["data"]["reason"] for event in harness.receiver.taken] == ["a", "b", "c"]
        header, row = harness.relay("status").stdout.splitlines()
        assert header.split() == "endpoint waiting under way dead relays partitions".split()
        assert row.split() == ["mailer", "0", "0", "0", "1", "64/64"]
        assert relay.terminate() == 0
        assert relay.events()[-1] == "stopped"
        assert relay.printed == ""
    finally:
        relay.kill()
    row = harness.relay("status").stdout.splitlines()[1]
    assert row.split() == ["mailer", "0", "0", "0", "0", "0/64"]


def test_dead_events_are_listed_sent_again_or_dropped(harness: Harness):
    assert "Nothing is dead." in harness.relay("dead", "list").stderr
    first, second, third = harness.give_up("ada", "a", "b", "[red]c[/red]")
    listed = harness.relay("dead", "list").stdout.splitlines()
    assert listed[0].split() == "endpoint event ID type user attempts reason given up".split()
    assert [line.split()[:7] for line in listed[1:]] == [
        ["mailer", event, "DEVICE_REVOKED", "ada", "7", "status", "500"]
        for event in (first, second, third)
    ]

    harness.receiver.status = 500
    failed = harness.relay("dead", "retry", first)
    assert (failed.exit_code, failed.stdout) == (1, f"mailer {first}: status 500\n")
    assert len(harness.relay("dead", "list").stdout.splitlines()) == 4

    harness.receiver.status = 204
    sent = harness.relay("dead", "retry", first)
    assert (sent.exit_code, sent.stdout) == (0, f"mailer {first}: delivered\n")
    assert harness.receiver.ids() == {first}
    dropped = harness.relay("dead", "drop", second)
    assert (dropped.exit_code, dropped.stdout) == (0, f"mailer {second}: dropped\n")
    rest = harness.relay("dead", "retry", "--all")
    assert (rest.exit_code, rest.stdout) == (0, f"mailer {third}: delivered\n")
    assert "Nothing is dead." in harness.relay("dead", "list").stderr
    assert harness.receiver.ids() == {first, third}


def test_dead_events_and_the_status_are_printed_as_json(harness: Harness):
    [event] = harness.give_up("ada", "a")
    [dead] = map(json.loads, harness.relay("dead", "list", "--json").stdout.splitlines())
    given_up = datetime.fromisoformat(dead.pop("given_up_at"))
    assert abs(datetime.now(UTC) - given_up) < timedelta(hours=1)
    assert dead == {
        "endpoint": "mailer",
        "event_id": event,
        "type": "DEVICE_REVOKED",
        "user_id": "ada",
        "attempts": 7,
        "reason": "status 500",
    }
    [status] = map(json.loads, harness.relay("status", "--json").stdout.splitlines())
    assert status == {
        "endpoint": "mailer", "waiting": 0, "under_way": 0, "dead": 1, "relays": 0, "partitions": 0,
    }  # fmt: skip
    harness.relay("dead", "drop", event)
    nothing = harness.relay("dead", "list", "--json")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "")


def test_an_event_id_is_whole_however_narrow_the_terminal(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "60")
    [event] = harness.give_up("ada", "a")
    [_, row] = harness.relay("dead", "list").stdout.splitlines()
    assert row.split()[1] == event


def test_dead_events_of_a_removed_endpoint_can_be_dropped(harness: Harness):
    [event] = harness.give_up("ada", "a", endpoint="gone")
    assert "Nothing is dead." in harness.relay("dead", "list").stderr
    assert event in harness.relay("dead", "list", "--endpoint", "gone").stdout
    retry = harness.relay("dead", "retry", "--all", "--endpoint", "gone")
    assert (retry.exit_code, retry.stderr) == (
        2,
        "session-authority: --endpoint: the file names no 'gone'\n",
    )
    drop = harness.relay("dead", "drop", "--all", "--endpoint", "gone")
    assert drop.stdout == f"gone {event}: dropped\n"


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_retry_and_drop_need_event_ids_or_all(harness: Harness, verb: str):
    settings = {"REDIS_URL": harness.url, "RELAY_ENDPOINTS": str(harness.endpoints)}
    for arguments in ((), ("--all", "evt_1")):
        assert says("dead", verb, *arguments, **settings) == (2, ["name the events, or give --all"])
    unknown = ["evt_0: is not a dead letter", "evt_1: is not a dead letter"]
    assert says("dead", verb, "evt_1", "evt_0", **settings) == (1, unknown)


def test_the_secret_command_makes_a_new_valid_secret(harness: Harness):
    first, second = (harness.relay("secret").stdout.strip() for _ in range(2))
    assert first != second
    harness.endpoints.write_text(
        f'[[endpoint]]\nname = "x"\nurl = "https://x.example"\nsecrets = ["{first}"]\n'
    )
    assert harness.relay("status").exit_code == 0


def says(*arguments: str, **settings: str) -> tuple[int, list[str]]:
    """Runs the command. Returns its exit code and the lines of its error."""
    result = call("relay", *arguments, **settings)
    lines = result.stderr.splitlines()
    return result.exit_code, [line.removeprefix("session-authority: ") for line in lines]


@pytest.mark.parametrize(
    "command", [(), ("status",), ("dead", "list"), ("dead", "drop", "--all")], ids="-".join
)
def test_missing_or_wrong_settings_are_reported_without_their_secrets(
    tmp_path: Path, command: tuple[str, ...]
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


def test_an_option_before_its_subcommand_is_refused(harness: Harness):
    result = harness.relay("--endpoints", str(harness.endpoints), "status")
    assert (result.exit_code, result.stderr) == (
        2,
        "session-authority: give --endpoints after status\n",
    )


def test_a_redis_that_is_down_is_reported(harness: Harness):
    url = f"redis://127.0.0.1:{free_port()}"
    for command in (("status",), ("dead", "list")):
        result = run(
            harness.folder, "relay", *command, REDIS_URL=url, RELAY_ENDPOINTS=str(harness.endpoints)
        )
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == "session-authority: Redis does not answer"
        assert "Traceback" not in result.stderr


def test_the_relay_waits_for_a_redis_that_is_down(harness: Harness, tmp_path: Path):
    port = free_port()
    settings = {"REDIS_URL": f"redis://127.0.0.1:{port}", "RELAY_ENDPOINTS": str(harness.endpoints)}
    relay = Command(harness.folder / "relay", ["relay"], settings)
    try:
        relay.wait_for_event("store_unavailable")
        assert relay.process.poll() is None
        assert relay.terminate() == 0
    finally:
        relay.kill()
