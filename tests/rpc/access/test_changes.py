"""Access and certificates change under a running server: new files are used, and broken files
change nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from session_authority.access import add_token, new_token, remove_tokens
from session_authority.processes import server as server_module
from session_authority.processes.options import Ports
from session_authority.processes.reloading import WatchedFiles
from session_authority.runtime.clock import now
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.access.harness import (
    ANSWERED,
    SPIFFE,
    UNKNOWN,
    Enter,
    House,
    Visitor,
    ended,
    not_allowed,
)
from tests.rpc.harness import ANYWHERE, Refusal, Stage, StageWith
from tests.support.ca import CA, Pair, encrypted_key
from tests.support.waiting import eventually

Logged = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the server look for changes more often, so that no test waits long."""
    assert timedelta(seconds=1) > server_module.PROBE_INTERVAL, (
        "changes are in force within a second"
    )
    monkeypatch.setattr(server_module, "PROBE_INTERVAL", timedelta(milliseconds=20))


@pytest.fixture
async def stage(stage_with: StageWith, house: House) -> Stage:
    running: Stage = await stage_with(doors=house.doors(), ports=Ports(ANYWHERE, bearer=ANYWHERE))
    return running


async def becomes(visitor: Visitor, method: str, wanted: Refusal) -> None:
    async def is_so() -> bool:
        return await visitor.outcome(method) == wanted

    await eventually(is_so, f"{method} to be answered with {wanted}")


def broken(stage: Stage, what: str) -> float | None:
    return stage.metrics.registry.get_sample_value("session_authority_files_broken", {"what": what})


async def told(logged: Logged, event: str, times: int = 1) -> MutableMapping[str, Any]:
    """Waits until this event was logged. Returns the last entry."""
    found: Logged = []

    def is_so() -> bool:
        found[:] = [entry for entry in logged if entry["event"] == event]
        return len(found) >= times

    await eventually(is_so, event)
    assert len(found) == times
    return found[-1]


async def looked_again(stage: Stage) -> None:
    """Waits until the server looked for changes several times more."""
    reloading = stage.server._reloading
    all_files = (reloading._access_files, reloading._key_files, reloading._certificate_files)
    watched = [one for one in all_files if one is not None]
    sound = {id(one): one.changed for one in watched}
    counts = dict.fromkeys(sound, 0)

    def counting(one: WatchedFiles) -> Callable[[], bool]:
        def look() -> bool:
            counts[id(one)] += 1
            return sound[id(one)]()

        return look

    for one in watched:
        one.changed = counting(one)  # type: ignore[method-assign]
    await eventually(lambda: min(counts.values()) >= 4, "some looks")
    for one in watched:
        one.changed = sound[id(one)]  # type: ignore[method-assign]


# --- access ---------------------------------------------------------------------------------------


async def test_a_changed_policy_is_used(stage: Stage, house: House, enter: Enter, logged: Logged):
    login, account = await enter("login"), await enter("account")
    assert await login.outcome("IssueDevice") == ANSWERED
    assert await login.outcome("WatchEvents") == not_allowed("WatchEvents")
    house.rewrite('roles = ["issuer"]', 'roles = ["watcher"]')
    await becomes(login, "IssueDevice", not_allowed("IssueDevice"))
    assert await login.outcome("WatchEvents") == ANSWERED
    assert await account.outcome("ListDevices") == ANSWERED, "other callers keep their permissions"
    await told(logged, "access_changed")


async def test_a_caller_removed_from_the_policy_is_unknown(house: House, enter: Enter):
    login = await enter("login")
    assert await login.outcome("IssueDevice") == ANSWERED
    house.rewrite(f'"{SPIFFE}login"', f'"{SPIFFE}sign-in"')
    await becomes(login, "IssueDevice", UNKNOWN)
    assert (
        await (await enter(pair=house.ca.sign(uris=[f"{SPIFFE}sign-in"]))).outcome("IssueDevice")
        == ANSWERED
    )


async def test_a_token_is_accepted_from_its_addition_until_its_removal(house: House, enter: Enter):
    token = new_token()
    visitor, account = await enter(token=token), await enter("account")
    assert await visitor.outcome("ListDevices") == UNKNOWN
    added = add_token(house.token_file, "account", token, now())
    await becomes(visitor, "ListDevices", ANSWERED)
    assert await account.outcome("ListDevices") == ANSWERED, "both are good"
    remove_tokens(house.token_file, "account", added.token_id)
    await becomes(visitor, "ListDevices", UNKNOWN)
    assert await account.outcome("ListDevices") == ANSWERED


async def happens(enter: Enter) -> None:
    """Causes an event that watchers receive."""
    assert await (await enter("login")).outcome("IssueDevice") == ANSWERED


async def is_told(stream: Any) -> None:
    """Waits until a watch receives the event."""
    while not pb.WatchEventsResponse.FromString(await stream.read()).events:
        pass


async def test_a_watch_ends_with_its_caller_s_right_to_it_and_others_go_on(
    stage: Stage, house: House, enter: Enter
):
    notifier, ops = await enter("notifier"), await enter("ops")
    theirs, others = notifier.watch(), ops.watch()
    health = notifier.watch("/grpc.health.v1.Health/Watch")
    for stream in (theirs, others, health):
        await stream.read()
    house.rewrite('roles = ["watcher"]', 'roles = ["manager"]')
    assert await ended(theirs) == not_allowed("WatchEvents")
    await happens(enter)
    await is_told(others)
    assert not health.done()
    assert stage.counted("WatchEvents") == {"PERMISSION_DENIED": 1}
    for stream in (others, health):
        stream.cancel()


async def test_a_watch_ends_with_its_caller_s_token_and_others_go_on(
    stage: Stage, house: House, enter: Enter
):
    second = new_token()
    add_token(house.token_file, "ops", second, now())
    ops, other, notifier = await enter("ops"), await enter(token=second), await enter("notifier")
    await becomes(other, "ListDevices", ANSWERED)
    removed = ops.watch()
    left = [other.watch(), notifier.watch()]
    for stream in (removed, *left):
        await stream.read()
    [_, kept] = [
        token for token in house.token_file.read_text().splitlines() if token.startswith("ops")
    ]
    account = [
        token for token in house.token_file.read_text().splitlines() if token.startswith("account")
    ]
    house.token_file.write_text("\n".join([*account, kept]) + "\n")
    assert await ended(removed) == UNKNOWN
    await happens(enter)
    for stream in left:
        await is_told(stream)
        stream.cancel()


async def test_a_watch_goes_on_when_its_caller_s_rights_grow(
    stage: Stage, house: House, enter: Enter
):
    notifier = await enter("notifier")
    watch = notifier.watch()
    await watch.read()
    house.rewrite('roles = ["watcher"]', 'roles = ["watcher", "manager"]')
    await becomes(notifier, "ListDevices", ANSWERED)
    await happens(enter)
    await is_told(watch)
    watch.cancel()


@pytest.mark.parametrize("which", ["policy", "tokens"])
async def test_a_broken_file_is_logged_once_and_changes_nothing(
    stage: Stage, house: House, enter: Enter, logged: Logged, which: str
):
    login, account, notifier = [await enter(name) for name in ("login", "account", "notifier")]
    watch = notifier.watch()
    await watch.read()
    path = house.policy if which == "policy" else house.token_file
    sound = path.read_text()
    assert broken(stage, "access") in (None, 0)
    path.write_text(sound + "nonsense\n")
    entry = await told(logged, "access_not_changed")
    assert str(path) in entry["reason"]
    await looked_again(stage)
    await told(logged, "access_not_changed")
    assert broken(stage, "access") == 1
    assert await login.outcome("IssueDevice") == ANSWERED
    assert await login.outcome("RevokeAll") == not_allowed("RevokeAll")
    assert await account.outcome("ListDevices") == ANSWERED
    await happens(enter)
    await is_told(watch)
    watch.cancel()
    path.write_text("more nonsense\n")
    await told(logged, "access_not_changed", 2)  # Another fault is logged.
    path.write_text(sound)
    await eventually(lambda: broken(stage, "access") == 0, "the repaired file to be used")
    assert await account.outcome("ListDevices") == ANSWERED


# --- certificates ---------------------------------------------------------------------------------


async def served_by(stage: Stage) -> int:
    """The serial number of the certificate that a new connection receives."""
    door = stage.ports.bearer
    assert door is not None
    pem = await asyncio.to_thread(ssl.get_server_certificate, (door.host, door.port))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def serial(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number


async def test_a_new_certificate_is_for_new_connections_and_old_ones_stay_open(
    stage: Stage, house: House, enter: Enter, logged: Logged
):
    old = {name: await enter(name) for name in ("login", "account", "notifier")}
    for name, method in (("login", "IssueDevice"), ("account", "ListDevices")):
        assert await old[name].outcome(method) == ANSWERED
    watch = old["notifier"].watch()
    await watch.read()
    assert await served_by(stage) == serial(house.server)
    other = house.ca.sign(addresses=["127.0.0.1"], ends=timedelta(hours=5), key="rsa2048")
    other.copy_to(house.server)
    await told(logged, "certificates_changed")
    assert await served_by(stage) == serial(other)
    ends = x509.load_pem_x509_certificate(
        other.certificate.read_bytes()
    ).not_valid_after_utc.timestamp()
    assert (
        stage.metrics.registry.get_sample_value("session_authority_certificate_end_seconds") == ends
    )
    for visitor in (old["login"], await enter("login")):
        assert await visitor.outcome("IssueDevice") == ANSWERED
    for visitor in (old["account"], await enter("account")):
        assert await visitor.outcome("ListDevices") == ANSWERED
    await happens(enter)
    await is_told(watch)
    watch.cancel()


BROKEN: dict[str, Callable[[House, Pair], object]] = {
    "half written": lambda house, new: house.server.certificate.write_bytes(
        new.certificate.read_bytes()
    ),
    "expired": lambda house, _: sign(house, ends=-timedelta(seconds=1)).copy_to(house.server),
    "not valid yet": lambda house, _: sign(house, starts=timedelta(hours=1)).copy_to(house.server),
    "of a kind that nobody takes": lambda house, _: sign(house, key="ed25519").copy_to(
        house.server
    ),
    "garbage": lambda house, _: house.server.certificate.write_text("garbage"),
    "empty": lambda house, _: house.server.key.write_text(""),
    "encrypted": lambda house, _: house.server.key.write_bytes(encrypted_key(b"x")),
    "gone": lambda house, _: house.server.certificate.unlink(),
    "no authority": lambda house, _: house.ca.file.write_text(""),
}


def sign(house: House, **more: Any) -> Pair:
    return house.ca.sign(addresses=["127.0.0.1"], **more)


@pytest.mark.parametrize("how", BROKEN)
async def test_broken_certificates_are_logged_once_and_change_nothing(
    stage: Stage, house: House, enter: Enter, logged: Logged, how: str
):
    before = serial(house.server)
    new = sign(house)
    BROKEN[how](house, new)
    entry = await told(logged, "certificates_not_changed")
    assert "PRIVATE KEY" not in entry["reason"]
    await looked_again(stage)
    await told(logged, "certificates_not_changed")
    assert broken(stage, "certificates") == 1
    assert await served_by(stage) == before
    assert await (await enter("login")).outcome("IssueDevice") == ANSWERED
    house.ca.file.write_bytes(house.ca.pem)
    new.copy_to(house.server)
    await eventually(lambda: broken(stage, "certificates") == 0, "the repaired files to be used")
    assert await served_by(stage) == serial(new)


async def test_after_an_authority_is_replaced_no_old_caller_is_accepted(
    stage: Stage, house: House, enter: Enter, tmp_path: Path, logged: Logged
):
    connected = await enter("login")
    assert await connected.outcome("IssueDevice") == ANSWERED
    other = CA(tmp_path / "other", "other")
    fresh = other.sign(uris=[f"{SPIFFE}login"])
    assert (
        await (await enter(pair=fresh)).outcome("IssueDevice")
    ).code is grpc.StatusCode.UNAVAILABLE
    house.ca.file.write_bytes(house.ca.pem + other.pem)  # First both CAs, then only the new CA.
    await told(logged, "certificates_changed")
    for pair in (house.pairs["login"], fresh):
        assert await (await enter(pair=pair)).outcome("IssueDevice") == ANSWERED
    house.ca.file.write_bytes(other.pem)
    await told(logged, "certificates_changed", 2)
    assert (await (await enter("login")).outcome("IssueDevice")).code is grpc.StatusCode.UNAVAILABLE
    assert await (await enter(pair=fresh)).outcome("IssueDevice") == ANSWERED
    assert await connected.outcome("IssueDevice") == ANSWERED, (
        "a connection that is open keeps its caller"
    )
