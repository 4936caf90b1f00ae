"""A batch that is built from encoded answers is read like one that protobuf built."""

from __future__ import annotations

import pytest

from session_authority.domain.errors import FieldViolation, InvalidRequest, StoreUnavailable
from session_authority.rpc import batch_results
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb

Results = pb.BatchValidateSessionsResponse


def answer_of(size: int) -> pb.ValidateSessionResponse:
    """An answer of about this many bytes."""
    return pb.ValidateSessionResponse(active=bool(size), device_id="x" * size)


# At 128, 16,384 and 2,097,152 bytes, a length needs one byte more: for the answer, and for the
# message around it.
@pytest.mark.parametrize("edge", [0, 128, 2**14, 2**21])
def test_an_answer_of_any_length_is_one_result(edge: int):
    for size in range(max(edge - 12, 0), edge + 4):
        answer = answer_of(size)
        made = batch_results.answered(answer.SerializeToString())
        result = pb.BatchValidateSessionsResult(response=answer)
        assert made == Results(results=[result]).SerializeToString()


def test_results_that_follow_each_other_are_one_batch():
    error = InvalidRequest([FieldViolation("client", "must be one")])
    answers = [answer_of(size) for size in (3, 0, 700)]
    outcomes: list[bytes | Exception] = [answer.SerializeToString() for answer in answers]
    outcomes.insert(1, error)
    outcomes.append(StoreUnavailable())
    batch = Results.FromString(b"".join(map(batch_results.result_of, outcomes)))
    kinds = [result.WhichOneof("outcome") for result in batch.results]
    assert kinds == ["response", "error", "response", "response", "error"]
    found = [result.response for result in batch.results if result.HasField("response")]
    assert found == answers
    errors = [result.error for result in batch.results if result.HasField("error")]
    assert [e.reason for e in errors] == [
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
    ]
    assert errors[0].field_violations[0].field == "client"
