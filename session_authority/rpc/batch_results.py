"""Assembles the results of a batch of validations from encoded answers.

Two encoded messages one after the other are one message with the contents of both (Protocol
Buffers, "Last One Wins"). So each result is encoded as a batch with one result. The bytes of these
small batches, one after the other, are the encoded whole batch.
"""

from __future__ import annotations

from functools import lru_cache

from session_authority.rpc.status import failure_of
from session_authority.v1 import session_authority_pb2 as pb

_METHOD = "BatchValidateSessions"
# The tag of a field 1 that has a length before its value. It is the tag of `results` in the batch,
# and of `response` in a result.
_FIELD_1 = b"\x0a"


def result_of(outcome: bytes | Exception) -> bytes:
    """Returns an encoded batch with one result, which is an answer or an error."""
    return failed(outcome) if isinstance(outcome, Exception) else answered(outcome)


def answered(answer: bytes) -> bytes:
    """Returns an encoded batch with one result, from an encoded `ValidateSessionResponse`."""
    return _opening(len(answer)) + answer


def failed(error: Exception) -> bytes:
    """Returns an encoded batch with one result, from the error of a validation."""
    result = pb.BatchValidateSessionsResult(error=failure_of(error, _METHOD).message_of_batch())
    return pb.BatchValidateSessionsResponse(results=[result]).SerializeToString()


@lru_cache(maxsize=1024)
def _opening(size: int) -> bytes:
    """Returns the bytes before an answer of this size. They are cached, as few sizes are common."""
    response = _FIELD_1 + _varint(size)
    return _FIELD_1 + _varint(len(response) + size) + response


def _varint(number: int) -> bytes:
    """Encodes a length as a varint: seven bits in each byte, the lowest bits first."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
