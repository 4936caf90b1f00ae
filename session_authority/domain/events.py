"""Defines the events about sessions. Services that watch the events can notify users, or drop
cached answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import UUID

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.clients import Client
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.verdicts import ReplayCause

# The user ID of an event that concerns all users.
NOBODY = ""


class EventType(Enum):
    """The type of an event. UNKNOWN stands for a type that a later version of the service wrote,
    and that this version does not know.
    """

    UNKNOWN = "unknown"
    DEVICE_SIGNED_IN = "device_signed_in"
    SESSION_REPLAYED = "session_replayed"
    ENDED_TOKEN_PRESENTED = "ended_token_presented"
    DEVICE_REVOKED = "device_revoked"
    ALL_REVOKED = "all_revoked"
    DEVICE_EVICTED = "device_evicted"
    SIGNING_KEY_REVOKED = "signing_key_revoked"
    SUPERSEDED_TOKEN_PRESENTED = "superseded_token_presented"
    SESSION_UPDATED = "session_updated"


@dataclass(frozen=True, slots=True)
class Event:
    """An event about a session, a user or a signing key, with enough facts to write a mail about
    the event. A field that does not apply to the type of the event keeps its default.

    `client` is the client that signed in or presented a token. `device_client` is the last known
    client of the device, and `device_display_name` is the device's name. `user_id` is NOBODY if the
    event concerns all users. `actor` is the name of the caller.
    """

    type: EventType
    happened_at: datetime
    user_id: str
    actor: str
    device_id: UUID | None = None
    device_display_name: str = ""
    device_client: Client = Client()
    client: Client = Client()
    session_id: bytes | None = None
    reason: str = ""
    new_device: bool = False
    first_device: bool = False
    replay_cause: ReplayCause | None = None
    replay_action: ReplayAction | None = None
    except_device_id: UUID | None = None
    key_id: str = ""

    def kept(self, detail: AddressDetail) -> Event:
        """Returns the event, with the addresses of its clients reduced to the part that the service
        keeps. `detail` says which part the service keeps.
        """
        client, device_client = self.client.kept(detail), self.device_client.kept(detail)
        return replace(self, client=client, device_client=device_client)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as it was stored, with its ID. All receivers of the event get the same ID."""

    event_id: str
    event: Event


class Concerning(Protocol):
    """An object with the facts by which a filter selects an event."""

    @property
    def type(self) -> EventType:
        """The type of the event."""

    @property
    def user_id(self) -> str:
        """The ID of the user whom the event concerns. NOBODY if the event concerns all users."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events that a watcher wants: events of the given types, about the given users. Empty
    `types` select every type, and empty `user_ids` select every user. An event that concerns all
    users passes any `user_ids`, but its type must be selected.
    """

    types: frozenset[EventType] = frozenset()
    user_ids: frozenset[str] = frozenset()

    def passes(self, event: Concerning) -> bool:
        """Returns True if the watcher wants this event."""
        if self.types and event.type not in self.types:
            return False
        return not self.user_ids or event.user_id == NOBODY or event.user_id in self.user_ids

    @property
    def is_open(self) -> bool:
        """True if every event passes the filter."""
        return not (self.types or self.user_ids)
