"""Each reason and each status of the contract becomes its own kind of exception, on every way to
the client.
"""

from __future__ import annotations

import copy
import pickle
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, fails, refuses
from client_tests.vectors import KINDS, Case, cases_of, each
from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from session_authority_client._shared import transport
from session_authority_client._shared.calls import was_dropped
from session_authority_client._shared.failures import error_of, error_of_item
from session_authority_client.wire import session_authority_pb2 as wire

STATUSES = [case for case in cases_of("errors") if case.given["form"] == "status"]
REASONS: dict[str, tuple[grpc.StatusCode, type[sa.SessionAuthorityError]]] = {
    case.expected["reason"]: (grpc.StatusCode[case.given["code"]], KINDS[case.expected["kind"]])
    for case in STATUSES
    if case.id.startswith("reason-")
}
# The statuses that come without a reason, from gRPC or from something on the way.
CODES = {
    grpc.StatusCode[case.given["code"]]: KINDS[case.expected["kind"]]
    for case in STATUSES
    if case.id.startswith("code-")
}


class Ended(grpc.RpcError):
    """A call that ended with the status of a case."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def code(self) -> grpc.StatusCode:
        """The status of the call."""
        return grpc.StatusCode[self._given["code"]]

    def details(self) -> str:
        """The message of the status."""
        message: str = self._given["message"]
        return message

    def trailing_metadata(self) -> Any:
        """The trailers of the call."""
        details = self._given["details_base64"]
        return () if details is None else [("grpc-status-details-bin", b64decode(details))]


# The codes after which gRPC itself repeats a call.
CONFIG: Any = transport._SERVICE_CONFIG
RETRIED = [
    grpc.StatusCode[code]
    for method in CONFIG["methodConfig"]
    for code in method["retryPolicy"]["retryableStatusCodes"]
]


def error_and_retry_of(given: Mapping[str, Any]) -> tuple[sa.SessionAuthorityError, bool]:
    """Returns the error of a case, and True if the client repeats such a call."""
    if given["form"] == "batch_item":
        item = wire.RequestError.FromString(b64decode(given["item_base64"]))
        return error_of_item(item), False
    ended = Ended(given)
    return error_of(ended), ended.code() in RETRIED or was_dropped(ended)


@each("errors")
def test_each_failure_has_its_error(case: Case) -> None:
    error, retriable = error_and_retry_of(case.given)
    kinds = [name for kind in type(error).__mro__ for name, its in KINDS.items() if kind is its]
    wait = error.retry_after
    assert {
        "kind": kinds[0],
        "also": [kind for kind in kinds[1:] if kind != "other"],
        "code": error.code.name,
        "reason": error.reason,
        "message": str(error),
        "retriable": retriable,
        "retry_after_seconds": None if wait is None else wait.total_seconds(),
        "violations": [{"field": v.field, "description": v.description} for v in error.violations],
        "metadata": error.metadata,
    } == case.expected


def test_every_reason_is_in_the_table():
    reasons = errors_pb2.ErrorReason.keys()
    names = {name.removeprefix("ERROR_REASON_") for name in reasons}
    assert names - {"UNSPECIFIED"} == set(REASONS)


def failure(reason: str) -> Failure:
    code, _ = REASONS[reason]
    number: Any = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
    return Failure(
        code,
        number,
        f"because of {reason}",
        retry_after=PATIENCE,
        metadata=(("error_id", "e1"),),
    )


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_has_its_exception(connect: Connect, fake: Fake, reason: str):
    code, kind = REASONS[reason]
    fake.always = refuses(failure(reason))
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.SessionAuthorityError) as caught:
            await authority.list_devices("ada")
        with pytest.raises(sa.SessionAuthorityError) as caught_watching:
            await anext(aiter(authority.watch_events()))
    for error in (caught.value, caught_watching.value):
        assert type(error) is kind
        assert (error.code, error.reason, str(error)) == (code, reason, f"because of {reason}")
        assert (error.retry_after, error.metadata) == (PATIENCE, {"error_id": "e1"})


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_the_same_exception_in_a_batch(reason: str):
    code, kind = REASONS[reason]
    sent = failure(reason).message_of_batch()
    error = error_of_item(wire.RequestError.FromString(sent.SerializeToString()))
    assert type(error) is kind
    assert (error.code, error.reason, str(error)) == (code, reason, f"because of {reason}")


@pytest.mark.parametrize("code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK}, key=str))
async def test_a_status_without_a_reason_has_its_exception_too(
    connect: Connect, fake: Fake, code: grpc.StatusCode
):
    fake.always = fails(code, "somebody says no")
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.SessionAuthorityError, match="somebody says no") as caught:
            await authority.get_signing_keys()
    assert type(caught.value) is CODES[code]
    assert (caught.value.code, caught.value.reason, caught.value.violations) == (code, "", ())


def test_only_failures_without_an_answer_are_unavailable():
    unsure = {kind for _, kind in REASONS.values() if issubclass(kind, sa.Unavailable)}
    assert unsure == {sa.Unavailable, sa.Overloaded, sa.NotReplicated}


def details(case: Case) -> Any:
    def act(request: Message, context: grpc.ServicerContext) -> None:
        content = b64decode(case.given["details_base64"])
        context.set_trailing_metadata((("grpc-status-details-bin", content),))
        context.abort(grpc.StatusCode[case.given["code"]], "no")

    return act


HOSTILE = [case for case in STATUSES if case.id.startswith(("details-", "info-"))]


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.id)
async def test_the_details_of_a_status_arrive_over_a_real_connection(
    connect: Connect, fake: Fake, case: Case
):
    fake.always = details(case)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(KINDS[case.expected["kind"]]) as caught:
            await authority.get_signing_keys()
    told = (caught.value.reason, caught.value.metadata)
    assert told == (case.expected["reason"], case.expected["metadata"])


def test_an_error_can_be_pickled_and_copied():
    violations = [sa.FieldViolation("user_id", "is empty")]
    sent = sa.RequestIdReused(
        "no",
        grpc.StatusCode.ABORTED,
        "X",
        retry_after=PATIENCE,
        violations=violations,
        metadata={"a": "b"},
    )
    for came in (pickle.loads(pickle.dumps(sent)), copy.deepcopy(sent)):
        assert type(came) is sa.RequestIdReused
        assert (str(came), vars(came)) == ("no", vars(sent))
