"""`session-authority inspect`, as an operator uses it: on a real store, without a running
service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from typer.testing import CliRunner, Result

from session_authority import cli
from session_authority.domain.events import EventType
from session_authority.domain.session_claims import SessionClaims
from session_authority.internal.v1 import records_pb2
from session_authority.runtime.clock import now
from session_authority.store import KeyNames, Limits, SessionStore, connect
from session_authority.store.codec import (
    encode_claims,
    encode_device,
    encode_session,
    sealed,
)
from session_authority.store.records import Commit
from tests.cli.harness import call, fault
from tests.store.samples import DAY, device, key, session
from tests.support.backends import Backend
from tests.support.ports import free_port

USER = "ada"
T = TypeVar("T")


@dataclass
class Desk:
    """A store in which a user is signed in on the devices 1 to 4, and an administrator's access to
    it.
    """

    url: str
    keys: KeyNames
    prefix: str
    admin: redis.Redis

    def inspect(self, *options: str, given: str = "") -> Result:
        """Runs `inspect` for the user."""
        settings = {"REDIS_URL": self.url, "REDIS_PREFIX": self.prefix}
        return CliRunner().invoke(
            cli.app,
            ["inspect", USER, *options],
            input=given,
            prog_name="session-authority",
            env={f"SESSION_AUTHORITY_{name}": value for name, value in settings.items()},
        )

    def rows(self, *options: str) -> list[dict[str, Any]]:
        """Returns the rows of the JSON output."""
        return [json.loads(line) for line in self.inspect("--json", *options).stdout.splitlines()]

    def corrupt(self, kind: str, number: int, raw: bytes = b"rubbish") -> None:
        """Replaces the record of the given kind and device."""
        hashes = {
            "session": self.keys.sessions,
            "device": self.keys.devices,
            "claims": self.keys.claims,
        }
        self.admin.hset(hashes[kind](USER), key(number), raw)

    def in_store(self, work: Callable[[SessionStore], Coroutine[Any, Any, T]]) -> T:
        """Runs `work` with a new store, and closes the store."""

        async def run() -> T:
            store = SessionStore(connect(self.url, Limits()), self.keys)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def readable(self) -> tuple[set[bytes], set[bytes]]:
        """Returns the device keys of the readable sessions and of the readable devices."""
        state = self.in_store(lambda store: store.user(USER))
        return set(state.sessions), set(state.devices)

    def events(self) -> list[records_pb2.EventRecord]:
        """Returns the user's events, oldest first."""
        entries: Any = self.admin.xrange(self.keys.events(USER))
        return [records_pb2.EventRecord.FromString(fields[b"event"]) for _, fields in entries]


@pytest.fixture
def desk(valkey_backend: Backend, prefix: str) -> Desk:
    admin = redis.Redis.from_url(valkey_backend.admin_url)
    desk = Desk(valkey_backend.url, KeyNames(prefix), prefix, admin)
    moment = now()
    times: dict[str, Any] = {
        "signed_in_at": moment - DAY,
        "dated_at": moment - DAY,
        "last_seen_at": moment,
    }
    ends: dict[str, Any] = {"token_ends_at": moment, "ends_at": moment + 29 * DAY}
    commit = Commit(
        USER,
        moment,
        set_sessions={key(n): session(n, **times, **ends) for n in range(1, 5)},
        set_devices={key(n): device(n, first_seen_at=moment - 2 * DAY) for n in range(1, 5)},
    )
    desk.in_store(lambda store: store.commit(commit))
    return desk


ALL = {key(number) for number in range(1, 5)}


def test_readable_records_are_shown_as_a_table_and_as_json(desk: Desk) -> None:
    shown = desk.inspect()
    assert (shown.exit_code, shown.stderr) == (0, "")
    header, *lines = shown.stdout.splitlines()
    assert header.split() == "record device begun last seen age ends".split()
    sessions = [line for line in lines if line.startswith("session")]
    assert len(sessions) == 4
    assert all(" 1 d " in line and line.rstrip().endswith("live") for line in sessions)
    assert len([line for line in lines if line.startswith("device") and " 2 d " in line]) == 4
    assert f"key {desk.keys.sessions(USER)} (sessions): kept for 28 d" in lines
    rows = desk.rows()
    assert {row["readable"] for row in rows} == {True}
    [first] = [
        r for r in rows if r["kind"] == "session" and r["device_id"][-1] == "1"
    ]  # fmt: skip
    assert (first["device_key"], first["session_id"], first["generation"], first["live"]) == (
        key(1).hex(),
        session(1).session_id.hex(),
        1,
        True,
    )
    [devices] = [row for row in rows if row.get("name") == "devices"]
    assert timedelta(days=179) < timedelta(seconds=devices["ttl_seconds"]) <= timedelta(days=180)


def test_the_mark_of_a_quiet_event_is_listed_among_the_keys(desk: Desk) -> None:
    name = desk.keys.told(USER, session(2).session_id, EventType.ENDED_TOKEN_PRESENTED)
    desk.admin.set(name, "1")
    [row] = [row for row in desk.rows() if row["kind"] == "key" and row["name"] == "quiet event"]
    assert (row["redis_key"], row["ttl_seconds"]) == (name, None)
    assert f"key {name} (quiet event): kept for ever" in desk.inspect().stdout.splitlines()


def test_a_user_without_records_is_reported_as_such(valkey_backend: Backend, prefix: str) -> None:
    shown = call("inspect", "nobody", REDIS_URL=valkey_backend.url, REDIS_PREFIX=prefix)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == "Redis holds nothing of this user.\n"


def test_unreadable_records_are_shown_with_the_reason(desk: Desk) -> None:
    desk.corrupt("session", 1)
    desk.corrupt("device", 2, encode_device(device(9)))
    shown = desk.inspect()
    assert (shown.exit_code, shown.stderr) == (1, "")
    bad = [line for line in shown.stdout.splitlines() if "UNREADABLE" in line]
    assert len(bad) == 2
    assert "a session record of 7 bytes is damaged, or is none" in bad[0]
    assert str(device(1).device_id) in bad[0]
    assert f"key {key(2).hex()}" in bad[1]
    assert "a DeviceRecord of another device" in bad[1]
    rows = [row for row in desk.rows() if not row["readable"]]
    assert [(r["kind"], r["device_key"], r["bytes"], r["of_later_version"]) for r in rows] == [
        ("session", key(1).hex(), 7, False),
        ("device", key(2).hex(), len(encode_device(device(9))), False),
    ]
    assert desk.readable() == (ALL - {key(1)}, ALL - {key(2)})


def test_a_repair_removes_unreadable_records_and_sends_events(desk: Desk) -> None:
    desk.corrupt("session", 1)
    desk.corrupt("session", 2)
    desk.corrupt("device", 2)
    refused = desk.inspect("--repair", given="n\n")
    assert (refused.exit_code, desk.events()) == (1, [])
    assert desk.readable() == (ALL - {key(1), key(2)}, ALL - {key(2)})
    repaired = desk.inspect("--repair", given="y\n")
    assert repaired.exit_code == 0
    assert repaired.stdout.endswith("\nRemoved 2 session records, 1 device record.\n")
    assert desk.admin.hlen(desk.keys.sessions(USER)) == 2
    assert desk.admin.hlen(desk.keys.devices(USER)) == 3
    events = desk.events()
    assert [records_pb2.EventType.Name(e.type) for e in events] == ["EVENT_TYPE_DEVICE_REVOKED"] * 2
    assert {(e.user_id, e.reason, e.actor) for e in events} == {
        (USER, "unreadable_record", "session-authority inspect")
    }
    assert {e.device_id for e in events} == {device(1).device_id.bytes, b""}
    assert desk.inspect("--repair").exit_code == 0
    assert len(desk.events()) == 2


def test_a_record_that_another_repair_removed_is_not_reported_as_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_repair(*_: Any, **__: Any) -> bool:
        desk.admin.hdel(desk.keys.sessions(USER), key(1))
        return True

    desk.corrupt("session", 1)
    monkeypatch.setattr("typer.confirm", other_repair)
    repaired = desk.inspect("--repair")
    assert (repaired.exit_code, repaired.stderr) == (0, "")


def test_an_inspection_that_finds_unreadable_records_is_audited_as_ok(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.log"
    monkeypatch.setenv("SESSION_AUTHORITY_AUDIT_LOG", str(audit))
    desk.corrupt("session", 1)
    assert desk.inspect().exit_code == 1
    line = json.loads(audit.read_text())
    assert (line["outcome"], line["exit_code"], line["unreadable"]) == ("OK", 1, 1)


def test_stored_claims_are_shown(desk: Desk) -> None:
    of = session(1).session_id
    record = SessionClaims(of, {"plan": "gold", "locale": "fi"}, ("pwd", "otp"))
    desk.corrupt("claims", 1, encode_claims(record))
    [row] = [row for row in desk.rows() if row["kind"] == "claims"]
    assert row == {
        "kind": "claims",
        "device_key": key(1).hex(),
        "device_id": str(device(1).device_id),
        "readable": True,
        "session_id": of.hex(),
        "claims": {"plan": "gold", "locale": "fi"},
        "auth_methods": ["pwd", "otp"],
    }
    [line] = [one for one in desk.inspect().stdout.splitlines() if one.startswith("claims")]
    assert line.rstrip().endswith(" locale=fi, plan=gold")


def test_a_repair_of_unreadable_claims_signs_nobody_out(desk: Desk) -> None:
    desk.corrupt("claims", 1, encode_claims(SessionClaims(session(1).session_id, {"a": "b"})))
    desk.corrupt("claims", 2)
    desk.corrupt("claims", 3)
    shown = desk.inspect()
    assert shown.exit_code == 1
    assert shown.stdout.count("UNREADABLE: a ClaimsRecord of 7 bytes") == 2
    repaired = desk.inspect("--repair", "--yes")
    assert repaired.exit_code == 0
    assert repaired.stdout.endswith("\nRemoved 2 records of claims.\n")
    assert desk.admin.hkeys(desk.keys.claims(USER)) == [key(1)]
    assert (desk.readable(), desk.events()) == ((ALL, ALL), [])


@pytest.mark.parametrize("kind", ["sessions", "devices", "claims"])
def test_a_repair_removes_a_key_of_another_type(desk: Desk, kind: str) -> None:
    name = getattr(desk.keys, kind)(USER)
    desk.admin.delete(name)
    desk.admin.rpush(name, "a")
    shown = desk.inspect()
    assert shown.exit_code == 1
    assert f"({kind}): kept for ever; UNREADABLE: it is of another type" in shown.stdout
    [*_, told] = desk.rows("--repair", "--yes")
    assert told == {
        "kind": "repair",
        "removed_sessions": [],
        "removed_devices": [],
        "removed_claims": [],
        "removed_keys": [kind],
        "left": 0,
    }
    assert not desk.admin.exists(name)
    types = [records_pb2.EventType.Name(event.type) for event in desk.events()]
    assert types == (["EVENT_TYPE_ALL_REVOKED"] if kind == "sessions" else [])
    assert desk.inspect().exit_code == 0


def test_a_repair_leaves_records_of_a_later_version_alone(desk: Desk) -> None:
    later = sealed(b"\x05" + encode_session(session(1))[1:-2])
    desk.corrupt("session", 1, later)
    desk.corrupt("session", 2)
    repaired = desk.inspect("--repair", "--yes")
    assert (repaired.exit_code, repaired.stderr) == (
        1,
        "Left alone: 1 of a later version of the service.\n",
    )
    assert "a session record of format 5, of a later version" in repaired.stdout
    assert repaired.stdout.endswith("\nRemoved 1 session record.\n")
    assert desk.admin.hget(desk.keys.sessions(USER), key(1)) == later
    assert desk.admin.hget(desk.keys.sessions(USER), key(2)) is None


def test_a_json_repair_without_yes_is_refused(desk: Desk) -> None:
    code, line = fault(desk.inspect("--repair", "--json"))
    assert code == 2
    assert line.startswith("--repair: asks first")


def test_a_redis_that_does_not_answer_is_reported_in_one_line() -> None:
    told = fault(call("inspect", USER, REDIS_URL=f"redis://127.0.0.1:{free_port()}"))
    assert told == (1, "Redis does not answer, or refuses")


def test_a_missing_redis_url_is_refused() -> None:
    assert fault(call("inspect", USER)) == (2, "SESSION_AUTHORITY_REDIS_URL: must be set")
