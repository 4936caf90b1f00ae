"""Random lives of two users, their clients and the owners of copied tokens, on the service and on
the model side by side.

Every answer, event and stored record must equal the model's. Clients may present any token that was
ever issued, on any device. Time stops just before, at, and just after every moment that the rules
name. Marks are lost, and stores fall back to earlier records.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from session_authority.domain.errors import DeviceLimitReached, RequestIdReused, RequestIdSpent
from session_authority.domain.results import IssuedDevice
from session_authority.domain.session_limits import DeviceLimitAction, ReplayAction, SessionLimits
from session_authority.internal.v1 import records_pb2
from session_authority.tokens import KeySource
from tests.authority import model
from tests.authority.harness import (
    ACTOR,
    START,
    TICK,
    Scene,
    key_of,
    read_token,
)
from tests.authority.harness import request as sign_in_request
from tests.authority.model import Expected, Model, Paper, Place, Record, whole
from tests.authority.model_terms import DEVICES, as_happening, as_record
from tests.support.backends import Backend

T = TypeVar("T")

USERS = ("ada", "ben")
KEYS = [key_of(device) for device in DEVICES]
MEMORY = 10  # earlier versions of a record that a store may fall back to
REFUSALS: dict[type[Exception], str] = {
    DeviceLimitReached: "LIMIT",
    RequestIdReused: "REUSED",
    RequestIdSpent: "SPENT",
}

# One user and one device get most of the actions, so that their histories become long.
users = st.sampled_from([USERS[0]] * 4 + [USERS[1]])
devices = st.sampled_from([0, 0, 0, 0, 1, 1, 2])
# The longest TTL is that of a sign-in before SESSION_TTL was lowered.
ttls = st.sampled_from(
    [model.SESSION_TTL, 2 * model.SESSION_TTL, 900 * model.SECOND, 1500 * model.SECOND + 1]
)
sometimes = st.sampled_from([False, False, False, True])
_runs = count()


def duration(ticks: int) -> timedelta:
    return ticks * TICK


LIMITS: dict[str, Any] = {
    "token_ttl": duration(model.TOKEN_TTL),
    "session_ttl": duration(model.SESSION_TTL),
    "idle_timeout": duration(model.IDLE_TIMEOUT),
    "grace": duration(model.GRACE),
    "durable_after": duration(model.DURABLE_AFTER),
    "alarm_after": duration(model.ALARM_AFTER),
    "touch_interval": duration(model.TOUCH_INTERVAL),
    "max_devices": model.MAX_DEVICES,
}


def unlike_any_before() -> Callable[[int], bytes]:
    """Returns a source of random bytes that never repeats itself, even for two bytes."""
    numbers = count(1)

    def draw(size: int) -> bytes:
        number = next(numbers)
        return number.to_bytes(2) if size == 2 else hashlib.sha256(b"%d" % number).digest()[:size]

    return draw


class Lives(RuleBasedStateMachine):
    """A state machine that performs all kinds of steps in any order."""

    def __init__(self, backend: Backend, source: KeySource, rows: Counter[str]) -> None:
        super().__init__()
        self.backend = backend
        self.source = source
        self.rows = rows
        self.now = 0
        self.papers: list[tuple[Paper, str]] = []
        self.asked: list[tuple[Place, int, int]] = []
        self.versions: dict[Place, list[tuple[bytes | None, Record | None]]] = {}
        self.read_up_to = dict.fromkeys(USERS, 0)
        self.loop = asyncio.new_event_loop()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    @initialize(action=st.sampled_from(ReplayAction), rejects=sometimes)
    def begin(self, action: ReplayAction, rejects: bool) -> None:
        limit = DeviceLimitAction.REJECT if rejects else DeviceLimitAction.EVICT_OLDEST
        self.model = Model(action.value, rejects)
        limits = SessionLimits(**LIMITS, replay_action=action, device_limit_action=limit)

        async def build() -> Scene:
            prefix = f"t-model{next(_runs)}"
            return Scene(
                self.backend, prefix, self.source, limits, random_bytes=unlike_any_before()
            )

        self.scene = self.run(build())

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            self.run(self.scene.close())
        self.loop.close()

    # Rules: the kinds of steps.

    @rule(user=users, device=devices, ttl=ttls, number=st.none() | st.integers(0, 3))
    def sign_in(self, user: str, device: int, ttl: int, number: int | None) -> None:
        self._sign_in((user, device), ttl, number)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), ttl=st.none() | ttls)
    def sign_in_again(self, data: st.DataObject, ttl: int | None) -> None:
        place, first_ttl, number = data.draw(st.sampled_from(self.asked[::-1]), label="the request")
        self._sign_in(place, ttl or first_ttl, number)

    @precondition(lambda self: self.papers)
    @rule(data=st.data(), observe_only=sometimes, lost=sometimes)
    def validate(self, data: st.DataObject, observe_only: bool, lost: bool) -> None:
        paper, text = self._some_paper(data)
        self._validate(paper, text, self._some_device(data, paper), observe_only, lost)

    @precondition(lambda self: self.papers)
    @rule(data=st.data(), lost=sometimes)
    def renew(self, data: st.DataObject, lost: bool) -> None:
        paper, text = self._some_paper(data)
        self._renew(paper, text, self._some_device(data, paper), lost)

    @precondition(lambda self: self._of_the_living())
    @rule(
        data=st.data(),
        used=st.booleans(),
        later=st.sampled_from([0, -1, 1, model.GRACE, model.ALARM_AFTER]),
    )
    def live_on(self, data: st.DataObject, used: bool, later: int) -> None:
        """An honest client uses its token, and renews it at about the time from which the rules
        allow a renewal.
        """
        paper, text = data.draw(st.sampled_from(self._of_the_living()), label="the token")
        if used:
            self._validate(paper, text, paper.place[1], False, False)
        record = self.model.sessions.get(paper.place)
        if record is not None:
            self._wait_until(record.dated + model.ALARM_AFTER + later)
        self._renew(paper, text, paper.place[1], False)

    @precondition(lambda self: self._of_the_living())
    @rule(
        data=st.data(),
        off=st.sampled_from([0, -1, 1]),
        age=st.sampled_from([1, 0, 2]),
        renews=st.booleans(),
    )
    def come_late(self, data: st.DataObject, off: int, age: int, renews: bool) -> None:
        """A token is presented a certain time after a newer token or another copy was made or
        used.
        """
        current, text = data.draw(st.sampled_from(self._of_the_living()), label="the current token")
        if data.draw(st.booleans(), label="used before"):
            self._present(current, text, False)
        self._wait_until(
            data.draw(st.sampled_from(self._moments_of(current.place)), label="the moment") + off
        )
        if data.draw(st.booleans(), label="used then"):
            self._present(current, text, False)
        of_place = [(paper, text) for paper, text in self.papers if paper.place == current.place]
        self._present(*of_place[-1 - min(age, len(of_place) - 1)], renews)

    @precondition(lambda self: self._of_the_living())
    @rule(
        data=st.data(),
        by=st.sampled_from(["a renewal", "another copy", "a sign-in"]),
        off=st.sampled_from([0, -1, 1]),
        renews=st.booleans(),
    )
    def fall_behind(self, data: st.DataObject, by: str, off: int, renews: bool) -> None:
        """An old token is presented a certain time after a newer token was first used."""
        paper, text = data.draw(st.sampled_from(self._of_the_living()), label="the token")
        place = paper.place
        if by == "a sign-in":
            self._sign_in(place, model.SESSION_TTL, None)
        else:
            self._wait_until(self.model.sessions[place].dated + model.ALARM_AFTER)
            self._present(paper, text, True)
        if by == "another copy":
            self._present(paper, text, True)
            self._wait_until(self._moments_of(place)[-1] + off)
        newest, newest_text = self.papers[-1]
        if newest.place == place:
            self._present(newest, newest_text, False)
        if by == "another copy":
            self._present(*self.papers[-2], renews)
            return
        self._wait_until(
            data.draw(st.sampled_from(self._moments_of(place)[:2]), label="the moment") + off
        )
        self._present(paper, text, renews, self._some_device(data, paper))

    @precondition(lambda self: self._of_the_living())
    @rule(
        data=st.data(), later=st.sampled_from([0, model.GRACE, model.GRACE + 1, model.ALARM_AFTER])
    )
    def lose_a_reply(self, data: st.DataObject, later: int) -> None:
        """A client that lost a reply sends the same renewal again."""
        paper, text = data.draw(st.sampled_from(self._of_the_living()), label="the token")
        self._wait_until(self.model.sessions[paper.place].dated + model.ALARM_AFTER)
        self._present(paper, text, True)
        self._wait_until(self.now + later)
        self._present(paper, text, True)

    @precondition(lambda self: self.papers)
    @rule(data=st.data(), off=st.sampled_from([0, -1, 1]))
    def time_passes(self, data: st.DataObject, off: int) -> None:
        moments = self._moments()
        self._wait_until(
            data.draw(st.sampled_from(moments[:4]) | st.sampled_from(moments), label="the moment")
            + off
        )

    @precondition(lambda self: self._of_the_shortened())
    @rule(data=st.data(), off=st.sampled_from([0, -1, 1]))
    def reach_a_lowered_end(self, data: st.DataObject, off: int) -> None:
        """A session from before SESSION_TTL was lowered is used until its new, earlier end."""
        paper, text = data.draw(st.sampled_from(self._of_the_shortened()), label="the token")
        end = self.model.sessions[paper.place].latest_end
        self._wait_until(end - model.IDLE_TIMEOUT + model.TOUCH_INTERVAL)
        self._present(paper, text, True)
        self._wait_until(end + off)
        self._present(paper, text, True)

    @precondition(lambda self: any(len(found) > 1 for found in self.versions.values()))
    @rule(data=st.data())
    def lose_writes(self, data: st.DataObject) -> None:
        """The store loses the last writes of one session. The other sessions keep their writes,
        because a write stores one session only.
        """
        earlier = {place: found[-2::-1] for place, found in self.versions.items() if len(found) > 1}
        rotated = {
            place: found
            for place, versions in earlier.items()
            if (
                found := [version for version in versions if self._rotated_since(place, version[1])]
            )
        }
        place = data.draw(
            st.sampled_from(sorted(rotated or earlier)) | st.sampled_from(sorted(earlier)),
            label="of",
        )
        raw, record = data.draw(
            st.sampled_from(rotated.get(place) or earlier[place]), label="back to"
        )
        self.run(self.scene.put_back(raw, DEVICES[place[1]], place[0]))
        if record is None:
            self.model.sessions.pop(place, None)
        else:
            self.model.sessions[place] = record
        self._agree(place[0], Expected("LOST", "writes lost"))
        ahead = [
            kept for kept in self._of_the_living() if kept[0].place == place and record is not None
        ]
        then = data.draw(
            st.sampled_from(["history forks", "the newest comes", "nobody comes"]), label="then"
        )
        if not ahead or then == "nobody comes":
            return
        if len(ahead) == 2 and then == "history forks":
            current, text = ahead[1]
            self._wait_until(self.model.sessions[place].dated + model.ALARM_AFTER)
            self._renew(current, text, place[1], False)
        self._present(*ahead[0], data.draw(st.booleans(), label="renews"))

    @precondition(lambda self: self.papers)
    @rule(what=st.sampled_from(["revoke one", "revoke all", "list"]), user=users, data=st.data())
    def something_rarer(self, what: str, user: str, data: st.DataObject) -> None:
        if what == "revoke one":
            self._revoke_device(
                (user, data.draw(devices, label="device")), data.draw(sometimes, label="forget")
            )
        elif what == "revoke all":
            kept = data.draw(st.none() | devices, label="kept")
            self._revoke_all(user, kept, data.draw(sometimes, label="forget"))
        else:
            self._list_devices(user, data.draw(devices, label="current"))

    def _rotated_since(self, place: Place, record: Record | None) -> bool:
        """Returns True if the session has rotated to a later generation since `record`."""
        there = self.model.sessions.get(place)
        return (
            record is not None
            and there is not None
            and record.session == there.session
            and record.generation < there.generation
        )

    # The steps that the rules consist of: each is done on the service, then on the model.

    def _sign_in(self, place: Place, ttl: int, number: int | None) -> None:
        user, device = place
        request_id = None if number is None else UUID(int=0x1D00 + number, version=4)
        request = sign_in_request(
            user, DEVICES[device], session_ttl=duration(ttl), request_id=request_id
        )
        issued: IssuedDevice | None = None
        status, session = "SIGNED_IN", b""
        try:
            issued = self.run(self.scene.authority.issue_device(request, ACTOR))
        except tuple(REFUSALS) as refusal:
            status = REFUSALS[type(refusal)]
        else:
            session = read_token(issued.access_token).session_id
        expected = self.model.sign_in(place, ttl, number, (place, ttl), session, KEYS, self.now)
        assert status == expected.status
        if issued is not None:
            assert expected.handed_out is not None
            assert issued.device.device.device_id == DEVICES[device]
            assert issued.device.session is not None
            assert issued.device.session.session_id == expected.handed_out.session
            self._take(place, issued.access_token, expected.handed_out)
            if number is not None:
                remembered = self.model.requests[user, number]
                assert issued.new_device == remembered.new_device
                forgotten = self.model.known(user)
                gone = [DEVICES[other] for other in remembered.evicted if other in forgotten]
                assert [other.device.device_id for other in issued.evicted] == gone
                self.asked.append((place, ttl, number))
        self._agree(user, expected)

    def _validate(
        self, paper: Paper, text: str, presented: int, observe_only: bool, lost: bool
    ) -> None:
        user = paper.place[0]
        before = self.run(self._raw(paper.place))
        answer, was_kept = self.run(
            self.scene.serve(text, DEVICES[presented], observe_only=observe_only)
        )
        self.rows["kept answer"] += was_kept
        expected = self.model.validate(
            paper, presented, self.now, observe_only=observe_only, lost=lost
        )
        assert (answer.status.name, answer.revoked_devices) == (
            expected.status,
            expected.revoked,
        ), expected.row
        assert answer.renew_recommended == expected.renew_recommended, expected.row
        assert (answer.device_id, answer.device_id_assigned) == (DEVICES[presented], False)
        assert (answer.session is not None) == (expected.status == "ACTIVE")
        if answer.session is not None:
            token = answer.session.token
            assert (token.session_id, token.generation, token.copy) == (
                paper.session,
                paper.generation,
                paper.copy,
            )
        if lost and expected.only_noted:
            self.run(self._put_back(paper.place, before))
        self._agree(user, expected)

    def _renew(self, paper: Paper, text: str, presented: int, lost: bool) -> None:
        before = self.run(self._raw(paper.place))
        answer = self.run(self.scene.renew(text, DEVICES[presented]))
        expected = self.model.renew(paper, presented, self.now, lost=lost)
        assert (answer.status.name, answer.revoked_devices) == (
            expected.status,
            expected.revoked,
        ), expected.row
        assert (answer.access_token is not None) == (expected.handed_out is not None), expected.row
        if answer.access_token is not None and expected.handed_out is not None:
            assert answer.session is not None
            assert answer.session.token.generation == expected.handed_out.generation
            self._take(paper.place, answer.access_token, expected.handed_out)
        if lost and expected.only_noted:
            self.run(self._put_back(paper.place, before))
        self._agree(paper.place[0], expected)

    def _revoke_device(self, place: Place, forget: bool) -> None:
        user, device = place
        revoked = self.run(
            self.scene.authority.revoke_device(
                user, DEVICES[device], reason="", forget=forget, actor=ACTOR
            )
        )
        expected = self.model.revoke_device(place, self.now, forget=forget)
        assert revoked == bool(expected.revoked)
        self._agree(user, expected)

    def _revoke_all(self, user: str, kept: int | None, forget: bool) -> None:
        named = None if kept is None else DEVICES[kept]
        revoked = self.run(
            self.scene.authority.revoke_all(
                user, except_device_id=named, reason="", forget=forget, actor=ACTOR
            )
        )
        expected = self.model.revoke_all(user, kept, self.now, forget=forget)
        assert revoked == expected.revoked
        self._agree(user, expected)

    def _list_devices(self, user: str, current: int) -> None:
        async def lists() -> tuple[Any, Any]:
            asked: dict[str, Any] = {
                "current_device_id": DEVICES[current],
                "page_size": 1000,
                "page_token": "",
            }
            signed_in = await self.scene.authority.list_devices(
                user, include_signed_out=False, **asked
            )
            everything = await self.scene.authority.list_devices(
                user, include_signed_out=True, **asked
            )
            await self.scene.authority.settled()
            return signed_in, everything

        signed_in, everything = self.run(lists())
        expected = self.model.list_live(user, self.now)
        assert {
            DEVICES.index(d.device.device_id): d.session.session_id for d in signed_in.devices
        } == expected
        assert signed_in.total_size == len(expected)
        assert {DEVICES.index(d.device.device_id) for d in everything.devices} == self.model.known(
            user
        )
        assert all(
            d.current == (d.device.device_id == DEVICES[current]) for d in everything.devices
        )
        self._agree(user, Expected("LISTED", "list"))

    def _present(self, paper: Paper, text: str, renews: bool, on: int | None = None) -> None:
        device = paper.place[1] if on is None else on
        if renews:
            self._renew(paper, text, device, False)
        else:
            self._validate(paper, text, device, False, False)

    def _take(self, place: Place, text: str, record: Record) -> None:
        """Checks a token that was handed out, and adds it to the known tokens."""
        said = read_token(text)
        assert (said.user_id, said.device_key) == (place[0], KEYS[place[1]])
        assert (said.session_id, said.generation) == (record.session, record.generation)
        issued, expires = said.issued * model.SECOND, said.expires * model.SECOND
        assert (issued, expires) == (whole(self.now), whole(record.token_end))
        paper = Paper(place, said.session_id, said.generation, said.copy, issued, expires)
        assert paper not in (kept for kept, _ in self.papers)  # every copy has its own number
        self.papers.append((paper, text))

    def _wait_until(self, moment: int) -> None:
        self.now = max(self.now, moment)
        self.scene.clock.now = START + duration(self.now)

    # Choices of tokens, devices and moments.

    def _some_paper(self, data: st.DataObject) -> tuple[Paper, str]:
        """Draws any known token, but often one of the latest."""
        last = len(self.papers) - 1
        age = data.draw(
            st.integers(0, min(3, last)) | st.integers(0, last), label="the token's age"
        )
        return self.papers[last - age]

    def _of_the_living(self) -> list[tuple[Paper, str]]:
        """Returns the newest token of each live session, and its newest token of the current
        generation.

        The two differ only after lost writes.
        """
        newest: dict[object, tuple[Paper, str]] = {}
        for paper, text in self.papers:
            record = self.model.sessions.get(paper.place)
            if (
                record is not None
                and record.session == paper.session
                and not record.is_over(self.now)
            ):
                newest[paper.place] = paper, text
                if paper.generation == record.generation:
                    newest[paper.place, "current"] = paper, text
        return list(dict.fromkeys(newest.values()))

    def _of_the_shortened(self) -> list[tuple[Paper, str]]:
        """Returns the tokens of live sessions that end earlier than was planned at the sign-in."""
        return [
            kept
            for kept in self._of_the_living()
            if (record := self.model.sessions[kept[0].place]).latest_end < record.end
        ]

    def _some_device(self, data: st.DataObject, paper: Paper) -> int:
        home = paper.place[1]
        return data.draw(
            st.sampled_from([home] * 14 + [d for d in range(len(DEVICES)) if d != home]), label="on"
        )

    def _moments(self) -> list[int]:
        """Returns the moments at which a session or a judgement changes."""
        moments = {self.now + 1, self.now + model.SECOND}
        for place, record in self.model.sessions.items():
            moments |= {*self._moments_of(place), record.latest_end}
            moments |= {record.end, record.last_seen + model.IDLE_TIMEOUT}
            moments |= {record.dated + model.GRACE, record.last_seen + model.TOUCH_INTERVAL}
        for paper, _ in self.papers[-6:]:
            moments |= {
                paper.expires + model.LEEWAY,
                (paper.issued + paper.expires) // 2,
                paper.issued + model.DURABLE_AFTER,
            }
        return sorted(moment for moment in moments if moment > self.now)

    def _moments_of(self, place: Place) -> list[int]:
        """Returns the moments at which the judgement of a session's tokens changes."""
        record = self.model.sessions.get(place)
        if record is None:
            return [self.now]
        used = record.dated if record.seen is None else record.seen
        return [used + model.GRACE, used + model.ALARM_AFTER, record.dated + model.ALARM_AFTER]

    # Agreement of the service with the model.

    async def _raw(self, place: Place) -> tuple[bytes | None, Any]:
        user, device = place[0], DEVICES[place[1]]
        kept = await self.scene.store.device(user, KEYS[place[1]])
        return await self.scene.raw_session(device, user), kept

    async def _put_back(self, place: Place, before: tuple[bytes | None, Any]) -> None:
        user, device = place[0], DEVICES[place[1]]
        await self.scene.put_back(before[0], device, user)
        if before[1] is not None:
            await self.scene.client.execute_command(
                "HSET", self.scene.keys.devices(user), KEYS[place[1]], before[1].raw
            )

    def _agree(self, user: str, expected: Expected) -> None:
        """Asserts that the stored records and the new events are those that the model expects."""
        self.rows[expected.row] += 1
        state, events = self.run(self._look(user))
        stored = {KEYS.index(key): as_record(one.record) for key, one in state.sessions.items()}
        assert stored == self.model.of_user(user), expected.row
        assert {KEYS.index(key) for key in state.devices} == self.model.known(user)
        told = events[self.read_up_to[user] :]
        self.read_up_to[user] = len(events)
        assert tuple(as_happening(event) for event in told) == expected.happened, expected.row
        for device, key in enumerate(KEYS):
            raw = state.sessions[key].raw if key in state.sessions else None
            versions = self.versions.setdefault((user, device), [(None, None)])
            if versions[-1][0] != raw:
                versions.append((raw, stored.get(device)))
                del versions[:-MEMORY]

    async def _look(self, user: str) -> tuple[Any, list[records_pb2.EventRecord]]:
        return await self.scene.store.user(user), await self.scene.events(user)
