"""The results of a batch of validations, put together from encoded answers.

Two encoded messages in a row are one message with the contents of both (Protocol Buffers, "Last One
Wins"). So each result is encoded as a batch of one, and these batches in a row are the whole batch.
"""

from __future__ import annotations

from functools import lru_cache

from session_authority.rpc.status import failure_of
from session_authority.v1 import session_authority_pb2 as pb

_METHOD = "BatchValidateSessions"
# Field 1 with a length before its value: `results` of the batch, and `response` of a result.
_FIELD_1 = b"\x0a"


def result_of(outcome: bytes | Exception) -> bytes:
    """A batch of one result: an answer or an error."""
    return failed(outcome) if isinstance(outcome, Exception) else answered(outcome)


def answered(answer: bytes) -> bytes:
    """A batch of one result: an encoded `ValidateSessionResponse`."""
    return _opening(len(answer)) + answer


def failed(error: Exception) -> bytes:
    """A batch of one result: an error."""
    result = pb.BatchValidateSessionsResult(error=failure_of(error, _METHOD).message_of_batch())
    return pb.BatchValidateSessionsResponse(results=[result]).SerializeToString()


@lru_cache(maxsize=1024)
def _opening(size: int) -> bytes:
    """The bytes in front of an answer of this size. Few sizes are common."""
    response = _FIELD_1 + _varint(size)
    return _FIELD_1 + _varint(len(response) + size) + response


def _varint(number: int) -> bytes:
    """A length as a varint: seven bits in each byte, the lowest bits first."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
