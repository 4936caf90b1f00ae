"""Assembles the answer to a batch of validations from encoded answers to single validations.

If the bytes of two encoded messages of one type are joined, the joined bytes are one message of the
same type. The repeated fields of the joined message have the items of both original messages
(Protocol Buffers, "Last One Wins"). So each result is encoded as a batch with one result. The
joined bytes of all small batches are the encoded whole batch.
"""

from __future__ import annotations

from functools import lru_cache

from session_authority.rpc.status import failure_of
from session_authority.v1 import session_authority_pb2 as pb

_METHOD = "BatchValidateSessions"
# The tag of the field `results` of a batch, and of the field `response` of a result. Both fields
# have the number 1 and a length before the value.
_FIELD_1 = b"\x0a"


def result_of(outcome: bytes | Exception) -> bytes:
    """Returns an encoded batch with one result. `outcome` is the encoded answer to a validation, or
    the error of the validation.
    """
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
    """Returns the bytes that come before an answer of `size` bytes in a batch with one result. The
    bytes are cached, as most answers have one of a few sizes.
    """
    response = _FIELD_1 + _varint(size)
    return _FIELD_1 + _varint(len(response) + size) + response


def _varint(number: int) -> bytes:
    """Encodes a number as a varint: seven bits in each byte, the lowest bits first."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
