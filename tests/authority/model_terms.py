"""The service's records and events in the terms of the model: ticks, and devices by index."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from session_authority.domain.sessions import SessionRecord
from session_authority.internal.v1 import records_pb2
from tests.authority.harness import LAPTOP, PHONE, START, TABLET, TICK, kind_of
from tests.authority.model import Record

DEVICES = (PHONE, LAPTOP, TABLET)


def as_record(record: SessionRecord) -> Record:
    """Returns a stored record in the model's terms. It has only the start of the replaced session's
    ID.
    """

    def ticks(moment: Any) -> int:
        assert (moment - START) % TICK == timedelta(0)
        return int((moment - START) // TICK)

    return Record(
        session=record.session_id,
        replaced=record.replaced,
        generation=record.generation,
        holder=record.holder,
        predecessor=record.predecessor,
        sign_in=ticks(record.signed_in_at),
        dated=ticks(record.dated_at),
        token_end=ticks(record.token_ends_at),
        end=ticks(record.ends_at),
        seen=None if record.first_seen_at is None else ticks(record.first_seen_at),
        last_seen=ticks(record.last_seen_at),
    )


def as_happening(event: records_pb2.EventRecord) -> tuple[object, ...]:
    """Returns an event in the model's terms."""
    kind = kind_of(event)
    device = DEVICES.index(UUID(bytes=event.device_id)) if event.device_id else None
    match kind:
        case "ALL_REVOKED":
            kept = (
                DEVICES.index(UUID(bytes=event.except_device_id))
                if event.except_device_id
                else None
            )
            return kind, kept
        case "DEVICE_SIGNED_IN":
            return kind, device, event.session_id, event.new_device, event.first_device
        case "SESSION_REPLAYED":
            cause = (
                records_pb2.ReplayCause.Name(event.replay_cause)
                .removeprefix("REPLAY_CAUSE_")
                .lower()
            )
            return kind, device, event.session_id, cause, event.replay_action
        case _:
            return kind, device, event.session_id
