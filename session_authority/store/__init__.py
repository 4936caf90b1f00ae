"""Stores sessions, devices and events of users in Redis, and defines how this data changes.

This package makes no decisions about sessions: the package `domain` decides. No other package of
the service connects to Redis.
"""

from session_authority.store.backlogs import Backlog, Backlogs
from session_authority.store.deliveries import Deliveries
from session_authority.store.driver.connection import BadRedisUrl, Limits, RedisClient, connect
from session_authority.store.driver.error_counts import errors as redis_errors
from session_authority.store.driver.questions import Question
from session_authority.store.driver.replication import Replicas
from session_authority.store.driver.traffic import traffic_of
from session_authority.store.event_log import EventLog, trim_margin
from session_authority.store.inspection import Inspected, Inspection, Repaired
from session_authority.store.key_names import KeyNames
from session_authority.store.session_store import SessionStore

__all__ = [
    "Backlog",
    "Backlogs",
    "BadRedisUrl",
    "Deliveries",
    "EventLog",
    "Inspected",
    "Inspection",
    "KeyNames",
    "Limits",
    "Question",
    "RedisClient",
    "Repaired",
    "Replicas",
    "SessionStore",
    "connect",
    "redis_errors",
    "traffic_of",
    "trim_margin",
]
