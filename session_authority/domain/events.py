"""What is told of a session, for whoever must notify the user or forget a cached answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from session_authority.domain.clients import Client
from session_authority.domain.policy import ReplayAction
from session_authority.domain.sessions import ReplayCause


class EventType(Enum):
    """What happened."""

    DEVICE_SIGNED_IN = "device_signed_in"
    SESSION_REPLAYED = "session_replayed"
    ENDED_TOKEN_PRESENTED = "ended_token_presented"
    DEVICE_REVOKED = "device_revoked"
    ALL_REVOKED = "all_revoked"
    DEVICE_EVICTED = "device_evicted"


@dataclass(frozen=True, slots=True)
class Event:
    """One happening: enough to write a mail from. Fields that do not apply to the type are left as they are."""

    type: EventType
    time: datetime
    user_id: str
    actor: str
    device_id: UUID | None = None
    device_display_name: str = ""
    client: Client = Client()
    session_id: bytes | None = None
    reason: str = ""
    new_device: bool = False
    first_device: bool = False
    replay_cause: ReplayCause | None = None
    replay_action: ReplayAction | None = None
    except_device_id: UUID | None = None
