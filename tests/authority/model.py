"""A second, independent implementation of the design's rules on sessions: as plain as possible, on
plain numbers, for one call at a time.

It is written from the rules in the design only: it calls no decision of the service. Times are
counted in ticks of 10 ms: a second has 100 ticks. Marks of use are written at once, or lost where a
test says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

SECOND = 100
GRACE = 30 * SECOND
DURABLE_AFTER = 180 * SECOND
ALARM_AFTER = 300 * SECOND
TOKEN_TTL = 1200 * SECOND
IDLE_TIMEOUT = 3600 * SECOND
SESSION_TTL = 4500 * SECOND
TOUCH_INTERVAL = 60 * SECOND
LEEWAY = 30 * SECOND
MAX_DEVICES = 2
FARTHEST_AHEAD = 1000
NAMED = 8  # a record keeps this many bytes of the ID of the session that it replaced

Place = tuple[str, int]  # a user, and the index of one of the user's devices
Happening = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A session record. `seen`, `holder` and `predecessor` may be unknown."""

    session: bytes
    replaced: bytes | None
    generation: int
    holder: int | None
    predecessor: int | None
    sign_in: int
    dated: int
    token_end: int
    end: int
    seen: int | None
    last_seen: int

    @property
    def latest_end(self) -> int:
        """When the session ends at the latest. `end` may date from before SESSION_TTL was
        lowered.
        """
        return min(self.end, self.sign_in + SESSION_TTL)

    def is_over(self, now: int) -> bool:
        return now >= self.latest_end or now >= self.last_seen + IDLE_TIMEOUT


@dataclass(frozen=True, slots=True)
class Paper:
    """A token that was handed out. Its times are whole seconds."""

    place: Place
    session: bytes
    generation: int
    copy: int
    issued: int
    expires: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What a call must lead to. `row` names the row of the table that decided it.

    `handed_out` is the record whose token the answer must hold. `only_noted` means that all writes
    came after the answer, and may be lost.
    """

    status: str
    row: str
    revoked: int = 0
    renew_recommended: bool = False
    handed_out: Record | None = None
    only_noted: bool = False
    happened: tuple[Happening, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the first request with a request_id led to."""

    contents: object
    place: Place
    session: bytes
    new_device: bool
    evicted: tuple[int, ...]


def whole(ticks: int) -> int:
    """Rounds ticks down to a whole second: the times in tokens are whole seconds."""
    return ticks // SECOND * SECOND


def _judge_at_home(record: Record, token: Paper, now: int) -> tuple[str, str]:
    """Judges a token on its own device by a live record. Returns the status and the name of the
    row.
    """
    used_for = None if record.seen is None else now - record.seen
    if token.session == record.session:
        if token.generation > record.generation:
            is_near = token.generation - record.generation <= FARTHEST_AHEAD
            return (
                ("ACTIVE", "ahead")
                if is_near and token.issued > record.dated
                else ("NO_SESSION", "ahead, but older")
            )
        if token.generation == record.generation:
            good = record.holder in (None, token.copy)
            return ("ACTIVE", "current") if good else ("REPLAYED", "second_copy")
        if token.generation == record.generation - 1:
            if record.predecessor not in (None, token.copy):
                return "REPLAYED", "second_copy"
            if used_for is None:
                return "ACTIVE", "previous, unseen"
            if used_for < GRACE:
                return "ACTIVE", "previous, in grace"
            if used_for < ALARM_AFTER:
                return "SUPERSEDED", "previous, late"
        return "REPLAYED", "superseded_token"
    if token.session[:NAMED] == record.replaced:
        crossed = token.issued > record.sign_in - ALARM_AFTER
        quiet = crossed or used_for is None or used_for < ALARM_AFTER
        return ("SUPERSEDED", "replaced, late") if quiet else ("REPLAYED", "replaced_session")
    return "SESSION_ENDED", "ended"


def judge(record: Record | None, token: Paper, presented: int, now: int) -> tuple[str, str]:
    """Judges a token by the whole table. Returns the status and the name of the row."""
    if record is None:
        return "NO_SESSION", "none"
    if record.is_over(now):
        own_end = min(record.end, record.last_seen + IDLE_TIMEOUT)
        return "SESSION_EXPIRED", "over" if now >= own_end else "over, as SESSION_TTL is lower"
    status, row = _judge_at_home(record, token, now)
    if presented == token.place[1]:
        return status, row
    if status in ("ACTIVE", "REPLAYED") and row != "replaced_session":
        return "REPLAYED", "left_device"
    return "WRONG_DEVICE", "wrong device"


@dataclass
class Model:
    """The state of all users: their sessions, their remembered devices, the quiet events that were
    sent (an hour never passes by the clock of Redis, so the service sends each of them once), and
    the results of request_ids.
    """

    replay_action: str
    rejects: bool
    sessions: dict[Place, Record] = field(default_factory=dict)
    devices: set[Place] = field(default_factory=set)
    told: set[tuple[str, bytes]] = field(default_factory=set)
    requests: dict[tuple[str, int], Remembered] = field(default_factory=dict)

    def of_user(self, user: str) -> dict[int, Record]:
        """Returns a user's records, live or ended, by device."""
        return {
            device: record for (owner, device), record in self.sessions.items() if owner == user
        }

    def live(self, user: str, now: int) -> dict[int, Record]:
        """Returns a user's live sessions by device."""
        return {
            device: record
            for device, record in self.of_user(user).items()
            if not record.is_over(now)
        }

    def known(self, user: str) -> set[int]:
        """Returns the user's remembered devices."""
        return {device for owner, device in self.devices if owner == user}

    # Signing in.

    def sign_in(
        self,
        place: Place,
        ttl: int,
        number: int | None,
        contents: object,
        session: bytes,
        keys: list[bytes],
        now: int,
    ) -> Expected:
        """Signs a user in. `session` is the ID that the service chose. `keys` are the device keys,
        which decide between equally old devices.
        """
        user, device = place
        if number is not None and (user, number) in self.requests:
            return self._sign_in_again(user, number, contents, now)
        live, known = self.live(user, now), self.known(user)
        others = {other: record for other, record in live.items() if other != device}
        surplus = len(others) + 1 - MAX_DEVICES
        if surplus > 0 and self.rejects:
            return Expected("LIMIT", "device limit")
        oldest = sorted(others, key=lambda other: (others[other].last_seen, keys[other]))
        evicted = tuple(oldest[: max(surplus, 0)])
        new, first = device not in known, not known and not live
        happened: list[Happening] = [("DEVICE_SIGNED_IN", device, session, new, first)]
        happened += [
            ("DEVICE_EVICTED", self._told_device((user, k)), others[k].session) for k in evicted
        ]
        for other in self.of_user(user):
            if other in evicted or other not in live:
                self.sessions.pop((user, other))
        record = Record(
            session=session,
            replaced=live[device].session[:NAMED] if device in live else None,
            generation=1,
            holder=None,
            predecessor=None,
            sign_in=now,
            dated=now,
            token_end=min(now + TOKEN_TTL, now + ttl),
            end=now + ttl,
            seen=None,
            last_seen=now,
        )
        self.sessions[place] = record
        self.devices.add(place)
        if number is not None:
            self.requests[user, number] = Remembered(contents, place, session, new, evicted)
        row = (
            "sign-in, evicting"
            if evicted
            else "sign-in, replacing"
            if record.replaced
            else "sign-in"
        )
        return Expected("SIGNED_IN", row, handed_out=record, happened=tuple(happened))

    def _sign_in_again(self, user: str, number: int, contents: object, now: int) -> Expected:
        remembered = self.requests[user, number]
        if remembered.contents != contents:
            return Expected("REUSED", "request_id, other contents")
        record = self.sessions.get(remembered.place)
        if (
            record is None
            or record.is_over(now)
            or record.session != remembered.session
            or record.generation > 1
            or record.seen is not None
            or remembered.place not in self.devices
        ):
            return Expected("SPENT", "request_id, spent")
        again = self._copied(record, now)
        self.sessions[remembered.place] = again
        return Expected("SIGNED_IN", "request_id, again", handed_out=again)

    # Using a session.

    def validate(
        self, token: Paper, presented: int, now: int, *, observe_only: bool, lost: bool
    ) -> Expected:
        """Validates a token."""
        if now >= token.expires + LEEWAY:
            return Expected("TOKEN_EXPIRED", "token over")
        record = self.sessions.get(token.place)
        status, row = judge(record, token, presented, now)
        if status == "ACTIVE":
            assert record is not None
            near_end = 2 * (token.expires - now) < token.expires - token.issued
            older = token.generation < record.generation
            noted = True
            if not observe_only:
                noted = self._note(token, record, row, now, lost)
            return Expected(status, row, renew_recommended=near_end or older, only_noted=noted)
        if observe_only:
            return Expected(status, row)
        return self._refuse(status, row, token, record, now, lost)

    def renew(self, token: Paper, presented: int, now: int, *, lost: bool) -> Expected:
        """Renews a token."""
        record = self.sessions.get(token.place)
        status, row = judge(record, token, presented, now)
        if status != "ACTIVE":
            return self._refuse(status, row, token, record, now, lost)
        assert record is not None
        current = self._moved_forward(token, record, now) if row == "ahead" else record
        settled = now - current.dated >= ALARM_AFTER and now - token.issued >= DURABLE_AFTER
        if token.generation == current.generation and settled:
            rotated = replace(
                current,
                generation=current.generation + 1,
                holder=None,
                predecessor=token.copy,
                dated=now,
                token_end=min(now + TOKEN_TTL, current.latest_end),
                seen=None,
                last_seen=now,
            )
            self.sessions[token.place] = rotated
            return Expected(status, f"renewal of {row}", handed_out=rotated)
        if token.generation < current.generation and current.seen is None:
            again = self._copied(current, now)
            self.sessions[token.place] = again
            row = "another copy" if again.dated == current.dated else "another copy, dated anew"
            return Expected(status, row, handed_out=again)
        return Expected(
            status, f"no renewal of {row}", only_noted=self._note(token, record, row, now, lost)
        )

    def _note(self, token: Paper, record: Record, row: str, now: int, lost: bool) -> bool:
        """Applies the marks and touches of a use. Returns True if the writes may be lost."""
        if row == "ahead":
            self.sessions[token.place] = self._marked(
                token, self._moved_forward(token, record, now), now
            )
            return False
        if not lost:
            self.sessions[token.place] = self._marked(token, record, now)
        return True

    def _moved_forward(self, token: Paper, record: Record, now: int) -> Record:
        return replace(
            record,
            generation=token.generation,
            holder=None,
            predecessor=None,
            dated=token.issued,
            token_end=token.expires,
            seen=now if now - token.issued >= DURABLE_AFTER else None,
            last_seen=now,
        )

    def _marked(self, token: Paper, record: Record, now: int) -> Record:
        record = self._touched(record, now)
        if token.generation < record.generation:
            return record
        if now - token.issued < DURABLE_AFTER:
            return record
        if record.seen is None:
            record = replace(record, seen=now)
        if record.holder is None and now - record.dated >= ALARM_AFTER:
            record = replace(record, holder=token.copy)
        return record

    def _copied(self, record: Record, now: int) -> Record:
        """Returns the record after another copy of its unseen generation is handed out."""
        if now - record.dated > GRACE:
            token_end = min(now + TOKEN_TTL, record.latest_end)
            return replace(record, dated=now, token_end=token_end, last_seen=now)
        return self._touched(record, now)

    def _touched(self, record: Record, now: int) -> Record:
        return (
            replace(record, last_seen=now) if now - record.last_seen >= TOUCH_INTERVAL else record
        )

    def _refuse(
        self, status: str, row: str, token: Paper, record: Record | None, now: int, lost: bool
    ) -> Expected:
        if status == "SESSION_EXPIRED":
            if not lost:
                del self.sessions[token.place]
            return Expected(status, row, only_noted=True)
        device = self._told_device(token.place)
        if status == "SESSION_ENDED" and (status, token.session) not in self.told:
            self.told.add((status, token.session))
            return Expected(
                status, row, happened=(("ENDED_TOKEN_PRESENTED", device, token.session),)
            )
        if status != "REPLAYED" or record is None:
            return Expected(status, row)
        happening: Happening = ("SESSION_REPLAYED", device, record.session, row, self.replay_action)
        user = token.place[0]
        if self.replay_action == "deny":
            if (status, token.session) in self.told:
                return Expected(status, row)
            self.told.add((status, token.session))
            return Expected(status, row, happened=(happening,))
        revoked = 1
        if self.replay_action == "revoke_all":
            revoked = len(self.live(user, now))
            self._remove(user, self.of_user(user))
        else:
            del self.sessions[token.place]
        return Expected(status, row, revoked=revoked, happened=(happening,))

    # Signing out.

    def revoke_device(self, place: Place, now: int, *, forget: bool) -> Expected:
        """Signs a user out on one device."""
        record = self.sessions.pop(place, None)
        if forget:
            self.devices.discard(place)
        if record is None:
            return Expected("REVOKED", "revoke one, none there")
        happened = (("DEVICE_REVOKED", place[1], record.session),)
        return Expected(
            "REVOKED", "revoke one", revoked=int(not record.is_over(now)), happened=happened
        )

    def revoke_all(self, user: str, kept: int | None, now: int, *, forget: bool) -> Expected:
        """Signs a user out on all devices, or on all but one."""
        gone = {device: record for device, record in self.of_user(user).items() if device != kept}
        self._remove(user, gone)
        if forget:
            self.devices -= {(user, device) for device in self.known(user) if device != kept}
        if not gone:
            return Expected("REVOKED", "revoke all, none there")
        revoked = sum(not record.is_over(now) for record in gone.values())
        return Expected("REVOKED", "revoke all", revoked=revoked, happened=(("ALL_REVOKED", kept),))

    def list_live(self, user: str, now: int) -> dict[int, bytes]:
        """Returns the sessions to list, and removes the user's ended sessions."""
        live = self.live(user, now)
        self._remove(user, self.of_user(user).keys() - live.keys())
        return {
            device: record.session
            for device, record in live.items()
            if (user, device) in self.devices
        }

    def _remove(self, user: str, devices: Iterable[int]) -> None:
        for device in list(devices):
            self.sessions.pop((user, device), None)

    def _told_device(self, place: Place) -> int | None:
        """Returns the device for an event, or None if the device was forgotten."""
        return place[1] if place in self.devices else None
