"""Thieves: each kind holds a copy of a browser's cookies and has its own way to use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from session_authority.domain.sessions import Token
from session_authority.domain.verdicts import SessionStatus
from tests.domain.world import ACTIVE, EXPIRED, World


class Thief(ABC):
    """A thief who holds a copy of a browser's cookies and uses it again and again. Each kind of
    thief is one `_use`.
    """

    def __init__(self, world: World, token: Token, *, every: float, key: bytes) -> None:
        self.world = world
        self.newest = token
        self.key = key
        self.every = every
        self.last_status: SessionStatus | None = None
        self.last_active: datetime | None = None
        world.log("thief copies", token)

    def poll(self) -> None:
        self._use()
        if not self.is_out_for_good():
            self.world.after(self.every, self.poll)

    def is_out_for_good(self) -> bool:
        """Returns whether no cookie of the thief could ever be good again."""
        return self.last_status in (
            SessionStatus.NO_SESSION,
            SessionStatus.SESSION_EXPIRED,
            SessionStatus.SESSION_ENDED,
        )

    @abstractmethod
    def _use(self) -> None:
        """What the thief does with the cookies each time."""

    def _validate(self, token: Token) -> tuple[SessionStatus, bool]:
        status, recommended = self.world.validate(token, self.key, "thief")
        self._took(status)
        return status, recommended

    def _renew(self, token: Token) -> Token | None:
        status, newer = self.world.renew(token, self.key, "thief")
        self._took(status)
        return newer

    def _took(self, status: SessionStatus) -> None:
        self.last_status = status
        if status is ACTIVE:
            self.last_active = self.world.now


class GreedyThief(Thief):
    """Renews at every opportunity."""

    def _use(self) -> None:
        self._validate(self.newest)
        self.newest = self._renew(self.newest) or self.newest


class LazyThief(Thief):
    """Acts like a well-behaved client: renews when the answer recommends it, or when its token has
    ended.
    """

    def _use(self) -> None:
        status, recommended = self._validate(self.newest)
        if recommended or status is EXPIRED:
            self.newest = self._renew(self.newest) or self.newest


class LateThief(Thief):
    """Knows the rule: copies the cookies, and uses them only after the victim has renewed and
    pauses, while the token before the newest is still good.
    """

    def __init__(self, world: World, token: Token, *, every: float, key: bytes) -> None:
        super().__init__(world, token, every=every, key=key)
        self.waits = True

    def _use(self) -> None:
        record = self.world.records.get(self.newest.device_key)
        if (
            self.waits
            and record is not None
            and record.session_id == self.newest.session_id
            and record.generation == self.newest.generation
        ):
            return
        self.waits = False
        self.newest = self._renew(self.newest) or self.newest
        self._validate(self.newest)


class IdleThief(Thief):
    """Never renews."""

    def is_out_for_good(self) -> bool:
        return super().is_out_for_good() or self.last_status is EXPIRED

    def _use(self) -> None:
        self._validate(self.newest)


class PatientThief(Thief):
    """Knows the rule: gets the next generation as soon as there may be one, and presents it only
    after the victim has presented it.
    """

    def __init__(self, world: World, token: Token, *, every: float, key: bytes) -> None:
        super().__init__(world, token, every=every, key=key)
        self.older: Token | None = None

    def _use(self) -> None:
        if self.older is not None:
            status, _ = self._validate(self.older)
            if status is EXPIRED:
                self.newest = self._renew(self.older) or self.newest
                status = self.last_status or status
            if status is ACTIVE:
                return
            self.older = None
        if self.world.now - self.newest.issued_at < self.world.limits.alarm_after:
            self._validate(self.newest)
            return
        newer = self._renew(self.newest)
        if newer is not None:
            self.older, self.newest = self.newest, newer
