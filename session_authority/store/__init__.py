"""What Redis holds of users' sessions and devices, and how it changes. The only room that speaks to
Redis.
"""

from session_authority.store.acl import acl_rules, sentinel_acl_rules
from session_authority.store.codec import UnreadableRecord
from session_authority.store.connection import BadRedisUrl, Client, Limits, connect
from session_authority.store.deliveries import (
    LEASE_TIME,
    Attempts,
    DeadLetter,
    Deliveries,
    DeliveryState,
    GroupGone,
    LeaseLost,
    TakenEvent,
)
from session_authority.store.event_log import EVENT_MEMORY, EventLog, HistoryGone, Page
from session_authority.store.keys import PARTITIONS, Keys
from session_authority.store.records import (
    AlreadyDone,
    Changed,
    Commit,
    CommitResult,
    Committed,
    IssuedRecord,
    Once,
    Stored,
    UserState,
)
from session_authority.store.safety import FaultName, StoreFault, faults_of, plaintext_fault
from session_authority.store.store import Store

__all__ = [
    "EVENT_MEMORY",
    "LEASE_TIME",
    "PARTITIONS",
    "AlreadyDone",
    "Attempts",
    "BadRedisUrl",
    "Changed",
    "Client",
    "Commit",
    "CommitResult",
    "Committed",
    "DeadLetter",
    "Deliveries",
    "DeliveryState",
    "EventLog",
    "FaultName",
    "GroupGone",
    "HistoryGone",
    "IssuedRecord",
    "Keys",
    "LeaseLost",
    "Limits",
    "Once",
    "Page",
    "Store",
    "StoreFault",
    "Stored",
    "TakenEvent",
    "UnreadableRecord",
    "UserState",
    "acl_rules",
    "connect",
    "faults_of",
    "plaintext_fault",
    "sentinel_acl_rules",
]
