"""Gives a call an ID: the ID that the caller sent, or a new ID. The busiest calls get an ID only if
they fail, or if the access log or tracing is on.

The ID is written on the lines of the log, and is sent back to the caller. The caller can quote the
ID to ask for help. The ID is kept in gRPC's own state of the call. If the caller sends an ID that
does not have the form `_FORM`, the call gets a new ID: the sent ID could fill the log or forge
lines in the log.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from session_authority.rpc.replies import Metadata, Reply
from session_authority.runtime import logs

HEADER = "x-request-id"
FIELD = "request_id"
_FORM = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}", re.ASCII)
_MADE_BYTES = 16

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class _Status(grpc.Status):
    """A status with additional metadata."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Metadata


def request_id_of(context: Context) -> str:
    """Returns the ID of a call. This is the ID that the caller sent, if the caller sent exactly one
    ID of the right form. Otherwise it is a new ID. For the same call, this function always returns
    the same ID. gRPC also sends the ID back if gRPC itself makes the status of the call.
    """
    known: Any = context.trailing_metadata() or ()
    for name, value in known:
        if name == HEADER:
            return str(value)
    sent = [value for name, value in context.invocation_metadata() or () if name == HEADER]
    request_id = sent[0] if len(sent) == 1 else None
    if not isinstance(request_id, str) or _FORM.fullmatch(request_id) is None:
        request_id = secrets.token_hex(_MADE_BYTES)
    context.set_trailing_metadata((*known, (HEADER, request_id)))
    return request_id


def reply(message: bytes, context: Context) -> Reply:
    """Returns an answer that is sent back with the ID of its call."""
    return Reply(message, ((HEADER, request_id_of(context)),))


def named(status: grpc.Status, context: Context) -> grpc.Status:
    """Returns a status that is sent back with the ID of its call."""
    with_id = (*(status.trailing_metadata or ()), (HEADER, request_id_of(context)))
    return _Status(status.code, status.details, with_id)


@contextmanager
def on_lines(context: Context) -> Iterator[None]:
    """Adds the ID of the call to the log lines inside the block, unless they have the ID
    already.
    """
    if logs.call_fields.get() is not None:
        yield
        return
    token = logs.call_fields.set({FIELD: request_id_of(context)})
    try:
        yield
    finally:
        logs.call_fields.reset(token)
