"""A small world that tests the rule of generations: a server and its store on an invented clock,
for one user.

The server calls the real decisions and adds only what the use cases add to them: it reads, compares
and sets, makes tokens, and signs every device out at an alarm. Everything random comes from the
seed, so a history can be repeated.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.identifiers import device_key
from session_authority.domain.renewals import copy_again, mark, renew
from session_authority.domain.session_claims import SessionClaims, change_claims
from session_authority.domain.session_limits import LEEWAY, SessionLimits
from session_authority.domain.sessions import (
    MAX_COPY,
    SESSION_ID_BYTES,
    SessionRecord,
    StoredClaims,
    Token,
)
from session_authority.domain.sign_in import decide_sign_in
from session_authority.domain.verdicts import ReplayCause, SessionStatus, judge

START = datetime(2026, 1, 1, tzinfo=UTC)
ACTIVE, EXPIRED = SessionStatus.ACTIVE, SessionStatus.TOKEN_EXPIRED
MEMORY = 40  # Log lines that a failure prints.
VERSIONS = 8  # Earlier versions of a record that a store may return to.


class Broken(AssertionError):
    """A history that breaks a promise. Its text is the last lines of the history."""


class World:
    """The clock, the events that are due, the server with its store, and the log."""

    def __init__(self, seed: int, limits: SessionLimits) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.limits = limits
        self.now = START
        self.records: dict[bytes, SessionRecord] = {}
        self.devices: dict[bytes, DeviceRecord] = {}
        self.claims: dict[bytes, SessionClaims] = {}
        self.versions: dict[bytes, deque[tuple[SessionRecord, SessionClaims | None]]] = {}
        self.alarm: ReplayCause | None = None
        self.lost_marks = 0.1
        self.counts: Counter[str] = Counter()
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = self._updates = 0
        self._made: set[str] = set()  # The updates whose claims were in some token.
        self._log: deque[tuple[object, ...]] = deque(maxlen=MEMORY)

    # Time.

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._due, (self.now + timedelta(seconds=seconds), self._numbers, what))

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs everything that is due, in order. Ends when nothing is due, or when `until`
        says so.
        """
        due = self._due
        while due and not until():
            self.now, _, what = heapq.heappop(due)
            what()

    def log(self, *what: object) -> None:
        self._log.append((self.now, *what))

    def broken(self, why: str) -> Broken:
        lines = [f"seed {self.seed}: {why}"]
        for moment, *what in self._log:
            assert isinstance(moment, datetime)
            shown = (_shown(w) for w in what)
            lines.append(f"  {(moment - START).total_seconds():14.3f}  {' '.join(shown)}")
        return Broken("\n".join(lines))

    # The server.

    def sign_in(self, device_id: UUID, who: str) -> Token:
        key = device_key(device_id)
        decided = decide_sign_in(
            sessions=self.records,
            devices=self.devices,
            key=key,
            device_id=device_id,
            session_id=self.random.randbytes(SESSION_ID_BYTES),
            client=Client(),
            session_end=self.now + self.limits.session_ttl,
            limits=self.limits,
            now=self.now,
        )
        self.devices[key] = decided.device
        for gone in decided.ended:
            self._remove(gone)
        self.claims.pop(key, None)
        self._commit(key, decided.session)
        token = self._token(key, decided.session)
        self.counts["sign-in that replaces" if decided.replaced else "sign-in"] += 1
        self.log(who, "signs in:", token)
        return token

    def sign_in_again(self, first: Token, who: str) -> Token | None:
        """Repeats the sign-in that made `first`, with its `request_id`. Returns None if the store
        can't answer it any more.
        """
        record = self.records.get(first.device_key)
        if (
            record is None
            or record.session_id != first.session_id
            or record.first_seen_at is not None
        ):
            return None
        if record.generation != first.generation:
            return None
        record = copy_again(record, self.limits, self.now)
        self._commit(first.device_key, record)
        token = self._token(first.device_key, record)
        self.counts["sign-in repeated"] += 1
        self.log(who, "repeats its sign-in:", token)
        return token

    def sign_out(self, key: bytes, who: str) -> None:
        self.log(who, "signs out")
        self._remove(key)

    def update_session(self, key: bytes) -> None:
        """Gives the session on a device, if there is one, claims that it never had."""
        self._updates += 1
        claims = {"update": str(self._updates)}
        change = change_claims(
            sessions=self.records,
            stored=self.claims,
            key=key,
            claims=claims,
            limits=self.limits,
            now=self.now,
        )
        for changed, record in change.changed.items():
            self._commit(changed, record, change.claims[changed])
            self.counts["update"] += 1
            self.log("session", record.session_id, "gets claims", self._updates)

    def _expect_claims_in_tokens(self, key: bytes, record: SessionRecord) -> None:
        """Checks that some token has the claims as soon as no renewal is recommended for them."""
        if record.stored_claims is StoredClaims.IN_TOKENS:
            newest = self.claims[key].claims["update"]
            if newest not in self._made:
                raise self.broken(f"no token has the claims of update {newest}")

    def claims_of(self, record: SessionRecord | None, token: Token) -> Mapping[str, str]:
        """The claims that the next token of a session must have, computed from one of its
        tokens.
        """
        stored = None if record is None else self.claims.get(token.device_key)
        return token.claims if stored is None else stored.claims

    def validate(self, token: Token, key: bytes, who: str) -> tuple[SessionStatus, bool]:
        now = self.now
        if now >= token.expires_at + LEEWAY:
            self.counts["validate token_expired"] += 1
            self.log(who, "validates", token, EXPIRED)
            return EXPIRED, False
        record = self.records.get(token.device_key)
        verdict = judge(record, token, key, self.limits, now)
        self._noted("validate", who, token, verdict.status)
        if verdict.status is SessionStatus.REPLAYED:
            self._raise_alarm(verdict.cause)
        elif verdict.forwarded is not None:
            self.counts["forwarded"] += 1
            self._commit(token.device_key, mark(verdict.forwarded, token, self.limits, now))
        elif verdict.status is ACTIVE:
            assert record is not None
            self._expect_claims_in_tokens(token.device_key, record)
            self._write_later(token.device_key, record, mark(record, token, self.limits, now))
        return verdict.status, verdict.renew_recommended

    def renew(self, token: Token, key: bytes, who: str) -> tuple[SessionStatus, Token | None]:
        record, stored = self.records.get(token.device_key), self.claims.get(token.device_key)
        claims = None if stored is None else stored.claims
        renewal = renew(record, token, key, self.limits, self.now, claims=claims)
        self._noted("renew", who, token, renewal.verdict.status)
        if renewal.verdict.status is SessionStatus.REPLAYED:
            self._raise_alarm(renewal.verdict.cause)
        if renewal.record is None:
            return renewal.verdict.status, None
        assert record is not None
        if not renewal.hand_out:
            if renewal.verdict.forwarded is not None:
                self._commit(token.device_key, renewal.record)
            else:
                self._write_later(token.device_key, record, renewal.record)
            if renewal.reissue:
                self.counts["same token, newer claims"] += 1
                self.log(who, "gets newer claims in", token)
                self._made.update((claims or {}).values())
                return renewal.verdict.status, replace(token, claims=claims or {})
            return renewal.verdict.status, None
        self.counts[
            "rotation" if renewal.record.generation > record.generation else "another copy"
        ] += 1
        self._commit(token.device_key, renewal.record)
        handed_out = self._token(token.device_key, renewal.record, self.claims_of(record, token))
        self.log(who, "gets", handed_out)
        return renewal.verdict.status, handed_out

    def roll_back(self) -> None:
        """Makes the record of a device an earlier version of itself."""
        keys = [k for k in self.records if self.versions.get(k)]
        if not keys:
            return
        key = self.random.choice(keys)
        versions = self.versions[key]
        for _ in range(self.random.randrange(len(versions))):
            versions.pop()
        self.records[key], claims = versions.pop()
        self.claims.pop(key, None)
        if claims is not None:
            self.claims[key] = claims
        self.counts["roll-back"] += 1
        self.log(
            "store falls back to generation",
            self.records[key].generation,
            "of",
            self.records[key].session_id,
        )

    def _token(
        self, key: bytes, record: SessionRecord, claims: Mapping[str, str] | None = None
    ) -> Token:
        self._made.update((claims or {}).values())
        return Token(
            user_id="u",
            device_key=key,
            session_id=record.session_id,
            generation=record.generation,
            copy=self.random.randint(1, MAX_COPY),
            issued_at=self.now.replace(microsecond=0),  # In whole seconds, as in a JWT.
            expires_at=record.token_ends_at.replace(microsecond=0),
            signed_in_at=record.signed_in_at,
            claims=claims or {},
            auth_methods=(),
        )

    def _noted(self, call: str, who: str, token: Token, status: SessionStatus) -> None:
        self.counts[f"{call} {status.value}"] += 1
        self.log(who, call + "s", token, status)

    def _raise_alarm(self, cause: ReplayCause | None) -> None:
        self.alarm = cause
        self.records.clear()
        self.claims.clear()

    def _remove(self, key: bytes) -> None:
        self.records.pop(key, None)
        self.claims.pop(key, None)

    def _commit(
        self, key: bytes, record: SessionRecord, claims: SessionClaims | None = None
    ) -> None:
        before = self.records.get(key)
        if before is not None:
            version = before, self.claims.get(key)
            self.versions.setdefault(key, deque(maxlen=VERSIONS)).append(version)
        self.records[key] = record
        if claims is not None:
            self.claims[key] = claims

    def _write_later(self, key: bytes, read: SessionRecord, marked: SessionRecord) -> None:
        """Writes a mark: the write may be lost, may be late, and is dropped where the record has
        changed.
        """
        if marked == read:
            return
        claims = self.claims.get(key)
        chance = self.random.random()
        if chance < self.lost_marks:
            self.counts["mark lost"] += 1
            return

        def write() -> None:
            if (self.records.get(key), self.claims.get(key)) == (read, claims):
                self._commit(key, marked)
            else:
                self.counts["mark dropped"] += 1

        if chance < 0.6:
            write()
        else:
            self.after(0.02 if chance < 0.9 else 3 * self.random.random(), write)


def _shown(what: object) -> str:
    match what:
        case Token():
            return f"{what.session_id.hex()[:4]}.{what.generation}.{what.copy:04x}"
        case SessionStatus():
            return what.name
        case bytes():
            return what.hex()[:4]
        case _:
            return str(what)
