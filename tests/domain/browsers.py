"""Honest browsers: several tabs, one cookie jar where the last cookie written wins, and a human
user.

The same happens to them as to real browsers: slow, crossing and lost replies, parallel requests,
double submits, repeated sign-ins, and pauses of every length. A browser may be killed: replies on
their way to it are lost, and its jar falls back to the copy on the disk. A browser may queue an
upload, with the token of that moment. The assumptions are `longest_flight`, `LATEST_WRITE_SECONDS`
and `LONGEST_QUEUE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from session_authority.domain.identifiers import device_key
from session_authority.domain.session_limits import LEEWAY, SessionLimits
from session_authority.domain.sessions import Token
from session_authority.domain.verdicts import SessionStatus
from tests.domain.world import ACTIVE, EXPIRED, World


def longest_flight(limits: SessionLimits) -> timedelta:
    """The longest time that an honest request and its reply may be under way together.

    A copy of a generation is handed out up to `GRACE` after that generation's date. At the very end
    of its flight, its reply may overwrite another copy in the jar. A request with that other copy
    may have started just before. Both flights must be over `ALARM_AFTER` after the generation's
    date, when a holder is chosen.
    """
    return (limits.alarm_after - limits.grace) / 2


# By how much a jar's copy on the disk may be older than the jar: Chromium writes cookies up to 30 s
# late.
LATEST_WRITE_SECONDS = 40.0
# The longest time for which an upload may be queued.
LONGEST_QUEUE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Mishaps:
    """The probability of each mishap in a step of a browser."""

    killed: float = 0
    queues_upload: float = 0


NO_MISHAPS = Mishaps()


@dataclass(frozen=True, slots=True)
class _Request:
    """A request under way: its token, the browser's process that waits for its reply, the seconds
    between validating and renewing, and the seconds on the way back.
    """

    token: Token
    process: int
    between: float
    back: float


class Browser:
    """One browser of the user. If `owed`, an answer that locks the browser out of a live session
    breaks the history.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        steps: int,
        pause: Callable[[Random], float],
        restless: float = 0.009,
        owed: bool = False,
        mishaps: Mishaps = NO_MISHAPS,
        before_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.world = world
        self.name = name
        self.device_id = UUID(int=world.random.getrandbits(128) | 1)
        self.key = device_key(self.device_id)
        self._written: list[tuple[datetime, Token | None]] = [(world.now, None)]
        self._mishaps = mishaps
        self._process = 0
        self._steps = steps
        self._pause = pause
        self._restless = restless
        self._owed = owed
        self._before_step = before_step
        self._longest_flight = longest_flight(world.limits).total_seconds()
        self._signing_in = 0
        self._denied = False
        world.after(world.random.random() * 5, self._act)

    @property
    def jar(self) -> Token | None:
        """The token in the browser's cookie jar."""
        return self._written[-1][1]

    @jar.setter
    def jar(self, token: Token | None) -> None:
        self._written = [*self._written[-20:], (self.world.now, token)]

    def _after(self, seconds: float, what: Callable[[], None], process: int | None = None) -> None:
        """Runs `what` later, unless the given process (by default the current one) is killed
        before.
        """
        wanted = self._process if process is None else process
        self.world.after(seconds, lambda: what() if wanted == self._process else None)

    def _kill(self) -> None:
        """Kills the browser's process. The browser comes back with the jar that was on the disk."""
        on_disk = self.world.now - timedelta(
            seconds=self.world.random.uniform(0, LATEST_WRITE_SECONDS)
        )
        before = self.jar
        self._written = [w for w in self._written if w[0] <= on_disk] or self._written[:1]
        self._process += 1
        self._signing_in = 0
        self._denied = False
        self.world.counts["killed"] += 1
        self.world.counts["store went back"] += self.jar is not before
        self.world.log(self.name, "is killed, its jar has", self.jar)

    def _queue_upload(self) -> None:
        """Sends a request later, with the current token. No backend renews for such a request."""
        token = self.jar
        if token is not None:
            pause = self.world.random.uniform(0, LONGEST_QUEUE_SECONDS)
            self.world.counts["upload queued"] += 1

            def arrive() -> None:
                self.world.validate(token, self.key, f"{self.name}'s upload")

            self.world.after(pause, arrive)

    def _act(self) -> None:
        """Does one thing that the human does, and schedules the next one after a pause."""
        self._before_step()
        random = self.world.random
        if random.random() < self._mishaps.killed:
            self._kill()
        if random.random() < self._mishaps.queues_upload:
            self._queue_upload()
        chance = random.random()
        if self._signing_in and chance < 0.9:
            pass  # the human waits for the login page
        elif self.jar is None or (self._denied and chance < 0.6) or chance < self._restless * 2 / 3:
            self._start_sign_in()
        elif chance < self._restless:
            self._sign_out(clears_jar=chance < self._restless * 0.9)
        else:
            for _ in range(1 if chance < 0.7 else random.randint(2, 5)):
                self._after(random.random() * 0.2 if chance > 0.9 else 0, self._send)
        self._steps -= 1
        if self._steps > 0:
            self.world.after(self._pause(random), self._act)

    def look_again(self) -> None:
        """Sends a last request, when nothing is under way any more."""
        if self.jar is not None:
            self._arrive(_Request(self.jar, self._process, between=0, back=0))

    # Sign-ins: a sign-in may be submitted twice, and is tried again if its reply is lost.

    def _start_sign_in(self) -> None:
        self._denied = False
        self._send_sign_in(None)
        if self.world.random.random() < 0.25:
            self._after(self.world.random.random() * 2, lambda: self._send_sign_in(None))

    def _send_sign_in(self, repeated: Token | None) -> None:
        self._signing_in += 1
        there, _, back = self._flight()
        process = self._process

        def arrive() -> None:
            again = None if repeated is None else self.world.sign_in_again(repeated, self.name)
            made = again or self.world.sign_in(self.device_id, self.name)
            if not self._is_lost():
                self._after(back, lambda: signed_in(made), process)
                return
            same_request = made if self.world.random.random() < 0.5 else None
            pause = self.world.random.uniform(0.5, 60)
            self._after(pause, lambda: try_again(same_request), process)

        def signed_in(made: Token) -> None:
            self._signing_in -= 1
            self._store(made)

        def try_again(same_request: Token | None) -> None:
            self._signing_in -= 1
            self._send_sign_in(same_request)

        self.world.after(there, arrive)

    def _sign_out(self, *, clears_jar: bool) -> None:
        self.world.after(
            self.world.random.random(), lambda: self.world.sign_out(self.key, self.name)
        )
        if clears_jar:
            self.jar = None

    # Requests: a backend validates the token, and renews it where that is recommended.

    def _send(self) -> None:
        token = self.jar
        if token is not None:
            there, between, back = self._flight()
            request = _Request(token, self._process, between, back)
            self.world.after(there, lambda: self._arrive(request))

    def _arrive(self, request: _Request) -> None:
        token = request.token
        owed = self._is_owed_an_active_answer(token)
        status, recommended = self.world.validate(token, self.key, self.name)
        if owed and status not in (ACTIVE, EXPIRED):
            self._locked_out(status.name)
        # Some backends follow the recommendation only now and then, and some renew whenever a page
        # is loaded.
        wanted = 0.9 if recommended else 0.05 if status is ACTIVE else 0
        if status is EXPIRED or self.world.random.random() < wanted:
            self.world.after(request.between, lambda: self._renew(request))
        else:
            self._answer(request, status, None)

    def _renew(self, request: _Request) -> None:
        token = request.token
        owed = self._is_owed_an_active_answer(token)
        status, newer = self.world.renew(token, self.key, self.name)
        if owed and status is not ACTIVE:
            self._locked_out(status.name)
        if owed and newer is None and self.world.now >= token.expires_at + LEEWAY:
            self._locked_out("its token has ended and it gets none")
        if owed and self.world.now < token.expires_at:
            self._expect_claims(newer or token)
        if self.world.random.random() < 0.05:  # the backend lost the answer and repeats its call
            status, again = self.world.renew(token, self.key, self.name)
            newer = again or (newer if self.world.random.random() < 0.5 else None)
        self._answer(request, status, newer)

    def _expect_claims(self, token: Token) -> None:
        """Breaks the history if a client has old claims after a renewal."""
        record = self.world.records.get(self.key)
        if record is None or token.generation < record.generation:
            return  # the client has a newer token already
        if token.claims != self.world.claims_of(record, token):
            raise self.world.broken(f"{self.name} has old claims after a renewal")

    def _answer(self, request: _Request, status: SessionStatus, newer: Token | None) -> None:
        if self._is_lost():
            self.world.counts["token lost"] += newer is not None
        elif newer is not None:
            self._after(request.back, lambda: self._store(newer), request.process)
        elif status is not ACTIVE:
            self._after(request.back, lambda: self._is_denied(request.token), request.process)

    def _store(self, token: Token) -> None:
        self.world.log(self.name, "stores", token)
        if self.jar is not None and self.jar.issued_at > token.issued_at:
            self.world.counts["older cookie written last"] += 1
        self.jar = token
        self._denied = False

    def _is_denied(self, token: Token) -> None:
        # If the jar has a newer token already, the denied request was only late.
        if token is self.jar:
            self._denied = True
            self.world.counts["denied"] += 1

    def _is_owed_an_active_answer(self, token: Token) -> bool:
        """Returns True if the token is in the jar and belongs to the live session on this
        device.
        """
        record = self.world.records.get(self.key)
        return (
            token is self.jar
            and record is not None
            and record.session_id == token.session_id
            and record.is_live(self.world.limits, self.world.now)
        )

    def _locked_out(self, why: str) -> None:
        self.world.counts["locked out"] += 1
        if self._owed:
            raise self.world.broken(f"{self.name} is locked out of its live session: {why}")

    def _is_lost(self) -> bool:
        return self.world.random.random() < 0.06

    def _flight(self) -> tuple[float, float, float]:
        """Draws the seconds to the server, between validating and renewing, and back."""
        random = self.world.random
        chance = random.random()
        if chance < 0.85:
            whole = random.uniform(0.01, 0.6)
        elif chance < 0.96:
            whole = random.uniform(0.6, 20)
        else:
            whole = random.uniform(20, self._longest_flight)
        there = whole * random.random()
        between = (whole - there) * random.random() ** 3
        return there, between, whole - there - between


def pauses(random: Random) -> float:
    """Draws the seconds until the human's next action, from one click to the next up to more than
    any idle timeout.
    """
    chance = random.random()
    if chance < 0.35:
        return random.uniform(0.001, 0.3)
    if chance < 0.65:
        return random.uniform(1, 20)
    if chance < 0.82:
        return random.uniform(20, 600)
    if chance < 0.935:
        return random.uniform(600, 5_000)
    if chance < 0.985:
        return random.uniform(3_600, 36_000)
    if chance < 0.996:
        return random.uniform(86_400, 6 * 86_400)
    return random.uniform(6 * 86_400, 9 * 86_400)


def busy_pauses(random: Random) -> float:
    """Draws the seconds until the next action of a human who is active for hours."""
    chance = random.random()
    if chance < 0.3:
        return random.uniform(0.001, 0.3)
    if chance < 0.75:
        return random.uniform(1, 20)
    if chance < 0.96:
        return random.uniform(20, 400)
    return random.uniform(400, 4_000)
