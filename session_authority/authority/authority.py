"""Assembles the use cases, and passes each call to its use case. The docstring of each use case
names the errors that the use case can raise. In addition, every use case that reads or writes
records can raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from session_authority.authority.best_effort_writes import BestEffortWrites
from session_authority.authority.commit_attempts import Attempts, UserLocks
from session_authority.authority.devices import Devices
from session_authority.authority.kept_answers import KeptAnswers
from session_authority.authority.reassertions import Reassertions
from session_authority.authority.resources import Resources
from session_authority.authority.session_checks import SessionChecks
from session_authority.authority.session_updates import SessionUpdates
from session_authority.authority.sessions import Sessions
from session_authority.authority.sign_in import SignIns
from session_authority.authority.signing_keys import SigningKeys
from session_authority.domain.devices import ListedDevice
from session_authority.domain.requests import AsPresented, Presented, SessionName, SignInRequest
from session_authority.domain.results import (
    DevicePage,
    IssuedDevice,
    RenewedSession,
    SessionState,
    Validation,
)
from session_authority.domain.session_limits import SessionLimits
from session_authority.geoip import Places, nowhere
from session_authority.runtime.metrics import Metrics
from session_authority.store import SessionStore
from session_authority.tokens import Tokens


class Authority:
    """Offers the use cases of the service. All times are aware, in UTC, and truncated to
    milliseconds. `actor` is always the name of the caller.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        tokens: Tokens,
        limits: SessionLimits,
        metrics: Metrics,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        places: Places = nowhere,
    ) -> None:
        resources = Resources(
            store=store,
            tokens=tokens,
            limits=limits,
            metrics=metrics,
            clock=clock,
            random_bytes=random_bytes,
            user_locks=UserLocks(),
            best_effort=BestEffortWrites(metrics),
            reassertions=Reassertions(store, clock, lambda: Attempts(clock, metrics)),
            places=places,
        )
        self._reassertions = resources.reassertions
        self.limits = limits
        self.waits_for_replicas = store.replicas.count > 0
        self._sign_ins, self._sessions = SignIns(resources), Sessions(resources)
        self._kept, self._updates = KeptAnswers(resources), SessionUpdates(resources)
        self._devices, self._keys = Devices(resources), SigningKeys(resources)
        self._checks = SessionChecks(resources)
        self._best_effort = resources.best_effort

    async def issue_device(self, request: SignInRequest, actor: str) -> IssuedDevice:
        """Signs a user in on a device."""
        return await self._sign_ins.issue_device(request, actor)

    async def validate_session(
        self, presented: Presented, *, observe_only: bool = False
    ) -> Validation:
        """Decides what a presented token is worth now, together with the device ID that came with
        the token.
        """
        return await self._sessions.validate_session(presented, observe_only=observe_only)

    def keep_answer(self, asked: AsPresented, validation: Validation, answer: bytes) -> None:
        """Keeps the encoded answer to a validation, if the answer may be repeated."""
        self._kept.keep(asked, validation, answer)

    def kept_answer(self, asked: AsPresented) -> Awaitable[bytes | None]:
        """Returns the kept answer to a validation, if the store shows that the answer still holds.
        Returns None if the token must be judged.
        """
        return self._kept.answer(asked)

    async def kept_answers(self, asked: Sequence[AsPresented]) -> list[bytes | Exception | None]:
        """Returns one result for each of many validations. The result is the kept answer, or None
        if the token must be judged, or the error of reading the store.
        """
        return await self._kept.answers(asked)

    async def renew_session(self, presented: Presented) -> RenewedSession:
        """Renews a session: swaps the presented token for a newer one, if necessary."""
        return await self._sessions.renew_session(presented)

    async def update_session(
        self, user_id: str, device_id: UUID | None, claims: Mapping[str, str], actor: str
    ) -> int:
        """Changes the claims of the session on a device, or of all sessions of a user. Returns the
        number of sessions that now have the new claims, including sessions that had the same claims
        before.

        Args:
            user_id: The user.
            device_id: The device of the session. None for all sessions of the user.
            claims: The claims that the sessions get.
            actor: The name of the caller.
        """
        return await self._updates.update_session(user_id, device_id, claims, actor)

    async def check_session(self, name: SessionName) -> SessionState:
        """Returns the state of a session, which the call names by its IDs and without a token."""
        return await self._checks.check_session(name)

    async def list_devices(
        self,
        user_id: str,
        *,
        current_device_id: UUID | None,
        include_signed_out: bool,
        page_size: int,
        page_token: str,
    ) -> DevicePage:
        """Returns a page of a user's devices. The device that was used last comes first.

        Args:
            user_id: The user.
            current_device_id: The device that is shown as the current one. None if no device is
                current.
            include_signed_out: True if devices without a live session are listed, too.
            page_size: The largest number of devices on the page.
            page_token: The `next_page_token` of the previous page. Empty for the first page.
        """
        return await self._devices.list_devices(
            user_id,
            current_device_id=current_device_id,
            include_signed_out=include_signed_out,
            page_size=page_size,
            page_token=page_token,
        )

    async def update_device(self, user_id: str, device_id: UUID, display_name: str) -> ListedDevice:
        """Gives a device a name. An empty `display_name` removes the name."""
        return await self._devices.update_device(user_id, device_id, display_name)

    async def revoke_device(
        self, user_id: str, device_id: UUID, *, reason: str, forget: bool, actor: str
    ) -> bool:
        """Signs a user out on a device. Returns True if the user was signed in on the device.

        Args:
            user_id: The user.
            device_id: The device.
            reason: The reason that is written into the event.
            forget: True if the record of the device is removed, too.
            actor: The name of the caller.
        """
        return await self._devices.revoke_device(
            user_id, device_id, reason=reason, forget=forget, actor=actor
        )

    async def revoke_all(
        self, user_id: str, *, except_device_id: UUID | None, reason: str, forget: bool, actor: str
    ) -> int:
        """Signs a user out on all devices, or on all devices except one. Returns the number of
        devices on which a live session ended.

        Args:
            user_id: The user.
            except_device_id: The device that stays signed in. None if no device stays signed in.
            reason: The reason that is written into the event.
            forget: True if the records of the devices are removed, too.
            actor: The name of the caller.
        """
        return await self._devices.revoke_all(
            user_id, except_device_id=except_device_id, reason=reason, forget=forget, actor=actor
        )

    def signing_keys(self) -> list[dict[str, str]]:
        """Returns the public keys, as JWKs."""
        return self._keys.signing_keys()

    async def tell_of_revoked_keys(self) -> None:
        """Writes one event for each signing key that was revoked, or that was removed before the
        tokens that it signed had expired.
        """
        await self._keys.tell_of_revoked_keys()

    async def reassert(self) -> int:
        """Ends sessions once more that this process has ended in the last minute, if a failover has
        undone their end. Returns the number of sessions that were ended once more.
        """
        return await self._reassertions.reassert()

    async def settled(self) -> None:
        """Waits until every best-effort write is done or dropped."""
        await self._best_effort.settled()

    async def settle_within(self, limit: timedelta) -> None:
        """Waits until every best-effort write is done, but no longer than `limit`. Drops the writes
        that are not done within this time.
        """
        await self._best_effort.settle_within(limit.total_seconds())
