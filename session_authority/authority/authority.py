"""The face of the use cases: puts them together, and hands each call to the one that it is for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from session_authority.authority.best_effort_writes import BestEffortWrites
from session_authority.authority.commit_attempts import UserLocks
from session_authority.authority.devices import Devices
from session_authority.authority.resources import Resources
from session_authority.authority.sessions import Sessions
from session_authority.authority.sign_in import SignIns
from session_authority.authority.signing_keys import SigningKeys
from session_authority.domain.session_limits import SessionLimits
from session_authority.runtime.metrics import Metrics
from session_authority.store import SessionStore
from session_authority.tokens import Tokens


class Authority:
    """What the service can do. All times are aware and UTC, cut to milliseconds; `actor` names the
    calling service.
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
        )
        sign_ins, sessions = SignIns(resources), Sessions(resources)
        devices, self._keys = Devices(resources), SigningKeys(resources)
        self.limits = limits
        self.issue_device = sign_ins.issue_device
        self.validate_session = sessions.validate_session
        self.renew_session = sessions.renew_session
        self.list_devices = devices.list_devices
        self.update_device = devices.update_device
        self.revoke_device = devices.revoke_device
        self.revoke_all = devices.revoke_all
        self.signing_keys = self._keys.signing_keys
        self.tell_of_revoked_keys = self._keys.tell_of_revoked_keys
        self.settled = resources.best_effort.settled
