"""Defines the intervals, limits and actions on which decisions about sessions depend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from session_authority.domain.idle_timeouts import SHORTEST


class ReplayAction(Enum):
    """The actions that the service can take when it detects a replay."""

    REVOKE_ALL = "revoke_all"
    REVOKE_DEVICE = "revoke_device"
    DENY = "deny"


class ReplayAlarm(Enum):
    """Says which use of an old token on its own device raises the alarm: any use, or only a
    renewal. A live token that another device presents raises the alarm at any use.
    """

    PRESENTED = "presented"
    RENEWED = "renewed"


class DeviceLimitAction(Enum):
    """The actions that the service can take when a user signs in on more devices than `max_devices`
    allows.
    """

    EVICT_OLDEST = "evict_oldest"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The intervals, limits and actions that the operator can set. Each field has the name of its
    setting, in lower case.
    """

    token_ttl: timedelta = timedelta(hours=1)
    session_ttl: timedelta = timedelta(days=30)
    idle_timeout: timedelta = timedelta(days=7)
    grace: timedelta = timedelta(seconds=30)
    durable_after: timedelta = timedelta(minutes=3)
    alarm_after: timedelta = timedelta(minutes=5)
    replay_alarm: ReplayAlarm = ReplayAlarm.PRESENTED
    replay_action: ReplayAction = ReplayAction.REVOKE_ALL
    max_devices: int = 100
    device_limit_action: DeviceLimitAction = DeviceLimitAction.EVICT_OLDEST
    touch_interval: timedelta = timedelta(seconds=60)

    @property
    def shortest_idle_timeout(self) -> timedelta:
        """The shortest idle timeout that a sign-in may request: a minute, or twice the touch
        interval if this is longer. A shorter timeout could end a session that is in use, because
        the last-seen time in a record may be late by the touch interval.
        """
        return max(SHORTEST, 2 * self.touch_interval)


# A validation accepts a token for this long after the token's end, because clocks differ (RFC 7519
# §4.1.4).
LEEWAY = timedelta(seconds=30)
# The largest number of generations by which a token may be ahead of the record in the store. A
# token can be ahead after a failover that lost writes.
MAX_LOST_GENERATIONS = 1000
# How long the store remembers a device without a session after the device was last seen. If a user
# has more than 2 × `max_devices` devices, the oldest of the user's devices without a session are
# forgotten earlier.
DEVICE_MEMORY = timedelta(days=180)
# How long the store remembers the `request_id` of a sign-in.
REQUEST_MEMORY = timedelta(minutes=15)
# How long the store remembers that the service wrote the event about the revocation of a signing
# key. This interval is longer than any session.
KEY_EVENT_MEMORY = timedelta(days=500)
# A session has at most one quiet event of each type in this interval.
QUIET_EVENT_INTERVAL = timedelta(hours=1)
# The longest time to which `SESSION_TTL` can be set. The record of a session could hold times up to
# 497 days after the sign-in, in offsets of 4 bytes with units of 10 ms.
MAX_SESSION_TTL = timedelta(days=400)
