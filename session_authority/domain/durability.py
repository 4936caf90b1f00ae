"""Collects whether the writes of a call are on the primary alone, or on replicas, too.

A write on the primary alone is lost if the primary is lost before a replica has the write. The
store notes each write that waits for replicas. The code that answers the call collects the notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto

from session_authority.domain.errors import FieldViolation, InvalidRequest, NotReplicated


class Durability(Enum):
    """The servers that hold a write: the primary alone, or replicas, too."""

    LOCAL = auto()
    REPLICATED = auto()


class Confirmations:
    """The confirmations by replicas for the writes of one call."""

    def __init__(self) -> None:
        self._noted: list[bool] = []

    @property
    def durability(self) -> Durability | None:
        """The durability of all writes together: LOCAL if replicas did not confirm one of them.
        None if the call wrote nothing.
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

    If `required`, raises NotReplicated at the end of the block if too few replicas confirmed one of
    its writes. Raises InvalidRequest at once if replication is `required` but not `offered`.
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
    """Notes, for the call that is being answered, whether enough replicas confirmed a write."""
    collected = _of_call.get()
    if collected is not None:
        collected.note(confirmed=confirmed)
