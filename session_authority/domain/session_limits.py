"""The intervals, limits and actions on which every decision about a session depends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from session_authority.domain.idle_timeouts import SHORTEST


class ReplayAction(Enum):
    """The action of the service when it detects a replay."""

    REVOKE_ALL = "revoke_all"
    REVOKE_DEVICE = "revoke_device"
    DENY = "deny"


class ReplayAlarm(Enum):
    """Which use of a replayed token on its own device raises the alarm: any use, or only a renewal.
    A live token from another device raises the alarm at any use.
    """

    PRESENTED = "presented"
    RENEWED = "renewed"


class DeviceLimitAction(Enum):
    """The action of the service when a user signs in on more devices than the limit."""

    EVICT_OLDEST = "evict_oldest"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The intervals, limits and actions of the settings with the same names."""

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
        interval if this is longer. Last-seen times are late by up to the touch interval.
        """
        return max(SHORTEST, 2 * self.touch_interval)


# A token is accepted for this long after its end, as clocks differ (RFC 7519 §4.1.4).
LEEWAY = timedelta(seconds=30)
# By how many generations a token may be ahead of the store, after a failover that lost writes.
MAX_LOST_GENERATIONS = 1000
# How long a device without a session is remembered after it was last seen. If a user has more than
# 2 × `max_devices` devices, the oldest devices without a session are forgotten earlier.
DEVICE_MEMORY = timedelta(days=180)
# How long a `request_id` is remembered.
REQUEST_MEMORY = timedelta(minutes=15)
# How long the service remembers that it announced a key's revocation. It is longer than any
# session.
KEY_EVENT_MEMORY = timedelta(days=500)
# A session has at most one quiet event of each type in this time.
QUIET_EVENT_INTERVAL = timedelta(hours=1)
# The longest allowed setting of `SESSION_TTL`. A record could describe 497 days: it has offsets of
# 4 bytes, in units of 10 ms.
MAX_SESSION_TTL = timedelta(days=400)
