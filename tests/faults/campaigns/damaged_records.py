"""Records that are cut, torn, foreign, or of a later version.

A record that can't be read affects only its own device. If the record is a session, this session is
denied. Nothing else of the user changes. A later version may add marks and bytes to a session
record of a known format: such a record is read. Each trial damages the session record or the device
record of one of two devices, and checks both devices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import UUID

import redis.asyncio as redis

from session_authority.domain.identifiers import device_key
from session_authority.store import KeyNames
from session_authority.store.codec import sealed
from tests.faults.campaigns.campaign import Order, Tally
from tests.faults.campaigns.rounds import Round, answered, round_on, side_by_side
from tests.faults.history import Role
from tests.faults.recorder import Held
from tests.faults.stage import standalone

_ROUND = 400
_CHECK_BYTES = 2


def _cut(whole: bytes, random: Random) -> bytes:
    return whole[: random.randrange(len(whole))]


def _torn(whole: bytes, random: Random) -> bytes:
    """One bit is flipped."""
    at = random.randrange(len(whole))
    return whole[:at] + bytes([whole[at] ^ 1 << random.randrange(8)]) + whole[at + 1 :]


def _lengthened(whole: bytes, random: Random) -> bytes:
    return whole + random.randbytes(random.randrange(1, 200))


def _foreign(_: bytes, random: Random) -> bytes:
    """Bytes of another program."""
    text = (b"", b"null", b'{"session": 1}', b"\x80\x04K\x01.", random.randbytes(61))
    return random.choice(text)


def _later_format(whole: bytes, random: Random) -> bytes:
    """A record of a later version that this version must not read."""
    head = whole[0] & 0xF0 | random.randrange(5, 16)
    return sealed(bytes([head]) + whole[1:-_CHECK_BYTES])


def _later_marks(whole: bytes, random: Random) -> bytes:
    """A record of a later version that this version may read: new marks, and more bytes."""
    head = whole[0] | random.choice((0x40, 0x80, 0xC0))
    more = random.randbytes(random.randrange(2))
    return sealed(bytes([head]) + whole[1:-_CHECK_BYTES] + more)


_DAMAGE: tuple[Callable[[bytes, Random], bytes], ...] = (_cut, _torn, _lengthened, _foreign)


class Trial:
    """A user on two devices. One record of the first device is damaged, and nothing of the
    second.
    """

    def __init__(self, this_round: Round, store: redis.Redis, user: str, random: Random) -> None:
        self.user = user
        self._round = this_round
        self._store = store
        self._random = random

    async def make(self, tally: Tally) -> None:
        """Damages a record, and checks what the user can still do."""
        random, user = self._random, self.user
        devices = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(2)]
        first, second = [await self._sign_in(device) for device in devices]
        form = random.choice((*_DAMAGE, _later_format, _later_marks))
        of_session = form in (_later_format, _later_marks) or random.random() < 0.7
        names, key = KeyNames(), device_key(UUID(first.token.device))
        name = names.sessions(user) if of_session else names.devices(user)
        whole = await self._store.hget(name, key)
        assert isinstance(whole, bytes)
        damaged = form(whole, random)
        may_live = form is _later_marks or not of_session
        if not may_live or not of_session:
            # Otherwise nothing may change from now on.
            self._round.recorder.damage(user, key)
        await self._store.hset(name, key, damaged)
        what = f"{form.__name__} {'session' if of_session else 'device'} of {user}: {damaged.hex()}"
        tally.counts[form.__name__.strip("_")] += 1
        presented = await self._status(first)
        if not may_live:
            tally.hold(presented == "NO_SESSION", f"{presented} by {what}")
        elif of_session:
            tally.hold(presented == "ACTIVE", f"{presented} by {what}")
        other = await self._status(second)
        tally.hold(other == "ACTIVE", f"the other device is {other} by {what}")
        await self._use(first, second, what, tally)
        tally.trials += 1

    async def _use(self, first: Held, second: Held, what: str, tally: Tally) -> None:
        """Lists, signs in, signs out."""
        server, user = self._round.servers[0], self.user
        listed = (await answered(lambda: server.list_devices(user))).call.listed
        tally.hold(second.token.session in dict(listed).values(), f"not listed: {what}")
        way = self._random.randrange(3)
        if way == 0:
            again = await self._sign_in(first.token.device)
            status = await self._status(again)
            tally.hold(status == "ACTIVE", f"{status} after a sign-in over {what}")
        elif way == 1:
            await answered(lambda: server.revoke_device(user, first.token.device))
        if way == 2 or self._random.random() < 0.5:
            await answered(lambda: server.revoke_all(user))
            left = [await self._status(held) for held in (first, second)]
            tally.hold("ACTIVE" not in left, f"{left} after RevokeAll over {what}")

    async def _sign_in(self, device: str) -> Held:
        request = str(UUID(int=self._random.getrandbits(128), version=4))
        server = self._random.choice(self._round.servers)
        held = (await answered(lambda: server.sign_in(self.user, device, request))).held
        assert held is not None
        return held

    async def _status(self, held: Held) -> str:
        server = self._random.choice(self._round.servers)
        return (await answered(lambda: server.validate(held, Role.ONLOOKER))).call.outcome


async def damaged_records(folder: Path, order: Order, tally: Tally) -> None:
    """Damages a record of another user in each trial."""
    random = Random(f"{order.seed} records")
    async with standalone(folder) as stage, redis.Redis.from_url(stage.store.admin_url) as store:
        number = 0
        while most := order.left(tally, _ROUND):
            users = [f"torn-{order.seed}-{number + each}" for each in range(most)]
            number += most
            async with round_on(stage) as this_round:
                trials = [Trial(this_round, store, user, Random(random.random())) for user in users]
                await side_by_side(trial.make(tally) for trial in trials)
                tally.judge(await this_round.history(users))
