"""Collects, for each call, whether its writes are on the primary alone or also on enough replicas.

A write on the primary alone is lost if the primary fails before a replica has the write. For each
write that must survive a failure of the primary, the store notes whether enough replicas confirmed
the write. With `REPLICAS_ACK=0` the service waits for no replicas, so no write counts as confirmed.
The store makes no notes about marks, as losing a mark is harmless. The code that answers the call
collects the notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto

from session_authority.domain.errors import FieldViolation, InvalidRequest, NotReplicated


class Durability(Enum):
    """Says which servers have a write for certain: only the primary, or also enough replicas."""

    LOCAL = auto()
    REPLICATED = auto()


class Confirmations:
    """The notes about the writes of one call. Each note says whether enough replicas confirmed one
    write.
    """

    def __init__(self) -> None:
        self._noted: list[bool] = []

    @property
    def durability(self) -> Durability | None:
        """The durability of all writes together. The value is LOCAL if too few replicas confirmed
        at least one of the writes, and REPLICATED if enough replicas confirmed all writes. The
        value is None if the store noted no write.

        If an earlier call already made the change, the present call writes nothing. For a call that
        writes nothing, the store notes whether enough replicas have the earlier write.
        """
        if not self._noted:
            return None
        return Durability.REPLICATED if all(self._noted) else Durability.LOCAL

    def note(self, *, confirmed: bool) -> None:
        """Notes whether enough replicas confirmed one write."""
        self._noted.append(confirmed)


_of_call: ContextVar[Confirmations | None] = ContextVar("confirmations", default=None)


@contextmanager
def confirmations(*, required: bool, offered: bool) -> Iterator[Confirmations]:
    """Collects the notes about all writes inside the `with` block.

    Raises InvalidRequest before the block if `required` is true and `offered` is false. Raises
    NotReplicated after the block if `required` is true and too few replicas confirmed at least one
    of the writes. If the block raises an exception, only this exception is raised.

    Args:
        required: The caller demands that enough replicas have the writes.
        offered: The service waits for replicas (its setting `REPLICAS_ACK` is not 0).
    """
    if required and not offered:
        rule = "this service waits for no replicas (its setting REPLICAS_ACK is 0)"
        raise InvalidRequest([FieldViolation("require_replicated", rule)])
    collected = Confirmations()
    token = _of_call.set(collected)
    try:
        yield collected
    finally:
        _of_call.reset(token)
    if required and collected.durability is Durability.LOCAL:
        raise NotReplicated


def note(*, confirmed: bool) -> None:
    """Notes whether enough replicas confirmed a write of the call that is being answered. Does
    nothing outside of the `with` block of `confirmations`.
    """
    collected = _of_call.get()
    if collected is not None:
        collected.note(confirmed=confirmed)
