"""Gives a call a request ID: the ID that the caller sent, or a new ID. A call of a method in
BUSY_METHODS gets a request ID only if the call fails, or if the access log or tracing is on.

The log lines of a call contain its request ID, and the service sends the ID back to the caller. The
caller can quote the ID to ask an operator for help. The ID is stored in the trailing metadata of
gRPC's context of the call. If the caller sends an ID that does not match `_FORM`, the call gets a
new ID. An ID that does not match `_FORM` could fill the log or forge log lines.
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
    """A status of gRPC with trailing metadata."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Metadata


def request_id_of(context: Context) -> str:
    """Returns the request ID of a call. If the caller sent exactly one ID, and this ID matches
    `_FORM`, returns the ID that the caller sent. In all other cases, returns a new ID. Further
    calls of this function with the same context return the same ID. The ID is added to the trailing
    metadata of the call, so gRPC also sends the ID with a status that gRPC makes itself.
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
    """Returns an answer with the request ID of its call as trailing metadata."""
    return Reply(message, ((HEADER, request_id_of(context)),))


def named(status: grpc.Status, context: Context) -> grpc.Status:
    """Returns a status with the request ID of its call added to the trailing metadata."""
    with_id = (*(status.trailing_metadata or ()), (HEADER, request_id_of(context)))
    return _Status(status.code, status.details, with_id)


@contextmanager
def on_lines(context: Context) -> Iterator[None]:
    """Adds the request ID of the call to the log lines that are written inside the `with` block.
    Does nothing if the log lines already have the ID.
    """
    if logs.call_fields.get() is not None:
        yield
        return
    token = logs.call_fields.set({FIELD: request_id_of(context)})
    try:
        yield
    finally:
        logs.call_fields.reset(token)
