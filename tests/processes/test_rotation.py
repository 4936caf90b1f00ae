"""Keys change under load: two processes on one key folder, and neither refuses a good token or
accepts a void one.

TEST_BUDGET=30 validates 100,000 times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from typing import Any

import grpc
import pytest

from session_authority.domain.events import NOBODY
from session_authority.store.key_names import partition
from session_authority.tokens import load_keyring, retire, revoke
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.processes.harness import Serve, becomes
from tests.processes.test_health import key_of
from tests.support.backends import Backend, valkey_server
from tests.support.budget import budget
from tests.support.commands import PATIENCE, DevServer, dev_server, run
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

VALIDATIONS = budget(3334)
ROTATIONS = 4
TABS = 16
ACTIVE, INVALID = pb.SESSION_STATUS_ACTIVE, pb.SESSION_STATUS_TOKEN_INVALID
# A user in the same partition as the events that concern all users.
MARKER = next(
    f"marker-{number}" for number in count() if partition(f"marker-{number}") == partition(NOBODY)
)


class Pair:
    """Two servers that share keys and store, and the operator of the keys."""

    def __init__(self, folder: Path, servers: list[DevServer], stubs: list[Any]) -> None:
        self._folder = folder
        self.keys = folder / "keys"
        self.servers = servers
        self.stubs = stubs

    async def command(self, *arguments: str, fails: bool = False) -> str:
        """Runs `session-authority keys`. Returns its output, and then its warnings."""
        done = await asyncio.to_thread(
            run, self._folder, "keys", *arguments, "--dir", str(self.keys)
        )
        assert (done.returncode != 0) is fails, done.stderr
        return (done.stdout + done.stderr).strip()


class Tab:
    """A user on a device. The browser sends each new token first to the process that did not sign
    the token.
    """

    def __init__(self, pair: Pair, user_id: str) -> None:
        self._turns = cycle([pair.stubs, pair.stubs[::-1]])
        self._user_id = user_id
        self.device_id = ""
        self.token = ""
        self.validations = 0
        self.refusals: list[tuple[str, str]] = []

    async def use(self) -> None:
        """Makes some requests of the user: a sign-in, and then five calls for a renewal. Both
        servers validate the token after each of these calls.
        """
        here, elsewhere = next(self._turns)
        issued = await here.IssueDevice(
            pb.IssueDeviceRequest(user_id=self._user_id, device_id=self.device_id), timeout=PATIENCE
        )
        self.token, self.device_id = issued.access_token, issued.device.device_id
        await self._validate(elsewhere, here)
        for _ in range(5):
            here, elsewhere = next(self._turns)
            renewed = await here.RenewSession(
                pb.RenewSessionRequest(access_token=self.token, device_id=self.device_id),
                timeout=PATIENCE,
            )
            self._note("renewal", renewed.status)
            self.token = renewed.access_token or self.token
            await self._validate(elsewhere, here)

    async def status(self, stub: Any) -> int:
        """The status of the token at a server."""
        request = pb.ValidateSessionRequest(access_token=self.token, device_id=self.device_id)
        answer: pb.ValidateSessionResponse = await stub.ValidateSession(request, timeout=PATIENCE)
        return answer.status

    async def _validate(self, *stubs: Any) -> None:
        for stub in stubs:
            self._note("validation", await self.status(stub))
            self.validations += 1

    def _note(self, what: str, status: int) -> None:
        if status != ACTIVE:
            self.refusals.append((what, pb.SessionStatus.Name(status)))


class Load:
    """Tabs in use."""

    def __init__(self, pair: Pair) -> None:
        self.tabs = [Tab(pair, f"user-{number}") for number in range(TABS)]

    @property
    def validations(self) -> int:
        """The number of validations."""
        return sum(tab.validations for tab in self.tabs)

    @property
    def refusals(self) -> list[tuple[str, str]]:
        """The answers with a status other than ACTIVE."""
        return [refusal for tab in self.tabs for refusal in tab.refusals]

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Inside the block, the tabs are used again and again. Their failures fail the test."""
        stopped = False

        async def go_on(tab: Tab) -> None:
            while not stopped:
                await tab.use()

        async with asyncio.TaskGroup() as group:
            for tab in self.tabs:
                group.create_task(go_on(tab))
            try:
                yield
            finally:
                stopped = True

    async def has(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition is true."""
        await eventually(condition, "the tabs to get there", 3 * PATIENCE)

    def is_on(self, kid: str) -> bool:
        """Returns whether all tabs hold a token of that key."""
        return all(tab.token and key_of(tab.token) == kid for tab in self.tabs)


@pytest.fixture
def servers(tmp_path: Path, valkey_backend: Backend, prefix: str) -> Iterator[list[DevServer]]:
    """Two servers, each in a process of its own."""
    assert (
        run(tmp_path, "keys", "generate", "--promote", "--dir", str(tmp_path / "keys")).returncode
        == 0
    )
    settings = {
        "KEYS": str(tmp_path / "keys"),
        "REDIS_URL": valkey_backend.url,
        "REDIS_PREFIX": prefix,
        "GRACE": "1s",
        "DURABLE_AFTER": "0s",
        "ALARM_AFTER": "1s",
        # The speed of a busy machine's store is not tested here.
        "REDIS_TIMEOUT": "10s",
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(dev_server(tmp_path / name, **settings)) for name in ("one", "two")
        ]


@pytest.fixture
async def pair(tmp_path: Path, servers: list[DevServer]) -> AsyncIterator[Pair]:
    """The servers, with a connection to each."""
    channels = [grpc.aio.insecure_channel(server.address) for server in servers]
    stubs: list[Any] = [pb_grpc.SessionAuthorityServiceStub(channel) for channel in channels]
    yield Pair(tmp_path, servers, stubs)
    for channel in channels:
        await channel.close()


async def test_keys_rotate_and_are_revoked_under_load(pair: Pair):
    load = Load(pair)
    kinds = [pb.EVENT_TYPE_SIGNING_KEY_REVOKED, pb.EVENT_TYPE_DEVICE_SIGNED_IN]
    watch = pair.stubs[1].WatchEvents(pb.WatchEventsRequest(types=kinds, user_ids=[MARKER]))
    assert not (await watch.read()).events
    first = signing = load_keyring(pair.keys).signing.kid

    async with load.under_way():
        for rotation in range(ROTATIONS):
            await load.has(lambda goal=rotation: load.validations >= goal * VALIDATIONS / ROTATIONS)  # type: ignore[misc]
            old = signing
            if rotation % 2:
                signing = (await pair.command("generate", "--promote")).split()[0]
            else:
                signing = await pair.command("generate")
                assert "signs." in await pair.command("promote", signing)
            await load.has(lambda kid=signing: load.is_on(kid))  # type: ignore[misc]
            assert "may still be presented" in await pair.command("retire", old, fails=True)
            if rotation == 0:
                await pair.command("retire", old, "--force")
        await load.has(lambda: load.validations >= VALIDATIONS)
    assert load.refusals == []
    assert load.is_on(signing)

    said = await pair.command("revoke", signing, "--replace")
    assert f"{signing} is revoked since" in said

    async def verdicts() -> set[int]:
        return {await tab.status(stub) for stub in pair.stubs for tab in load.tabs}

    await becomes(verdicts, {INVALID})
    ring = load_keyring(pair.keys)
    revoked = ring.key(signing).revoked_at
    assert revoked is not None
    print(
        f"void everywhere {(datetime.now(UTC) - revoked).total_seconds():.2f} s after it was"
        " revoked"
    )
    for stub in pair.stubs:
        renewal = pb.RenewSessionRequest(
            access_token=load.tabs[0].token, device_id=load.tabs[0].device_id
        )
        assert (await stub.RenewSession(renewal, timeout=PATIENCE)).status == INVALID
        shown = await stub.GetSigningKeys(pb.GetSigningKeysRequest(), timeout=PATIENCE)
        assert signing not in str(shown)
        assert ring.signing.kid in str(shown)

    before = load.validations
    async with load.under_way():  # The users sign in again.
        await load.has(lambda: load.validations > before + VALIDATIONS / 10)
    assert load.refusals == []
    assert load.is_on(ring.signing.kid)

    await pair.stubs[0].IssueDevice(pb.IssueDeviceRequest(user_id=MARKER), timeout=PATIENCE)
    events: list[pb.Event] = []
    async with asyncio.timeout(PATIENCE):
        while not any(event.user_id == MARKER for event in events):
            events += (await watch.read()).events
    told = [event.key_id for event in events if event.type == pb.EVENT_TYPE_SIGNING_KEY_REVOKED]
    assert told == [
        first,
        signing,
    ], "one event for the key that was removed early, and one for the revoked key"
    watch.cancel()
    for server in pair.servers:
        assert server.events().count("keys_changed") > ROTATIONS
        assert "no_key_signs" not in server.events()


async def test_a_key_revoked_during_an_outage_of_redis_makes_an_event_after_the_outage(
    serve: Serve, tmp_path: Path, keys: Path
):
    old = load_keyring(keys).signing.kid
    began = datetime.now(UTC)
    with valkey_server(tmp_path / "valkey") as valkey:
        client = await serve(f"redis://127.0.0.1:{valkey.port}")
        await asyncio.to_thread(valkey.kill)
        revoke(keys, old, datetime.now(UTC), replace=True)
        # By an operator in a hurry.
        retire(keys, old, datetime.now(UTC), timedelta(days=8), force=True)

        async def known() -> bool:
            shown = await client.stub.GetSigningKeys(pb.GetSigningKeysRequest(), timeout=PATIENCE)
            return old not in str(shown)

        await eventually(known, "the key to be forgotten")
        await asyncio.to_thread(valkey.start)
        request = pb.WatchEventsRequest(types=[pb.EVENT_TYPE_SIGNING_KEY_REVOKED])
        request.start_time.FromDatetime(began)
        watch = client.stub.WatchEvents(request, timeout=PATIENCE, wait_for_ready=True)
        events: list[pb.Event] = []
        while not events:
            events += (await watch.read()).events
        assert [event.key_id for event in events] == [old]
        watch.cancel()
