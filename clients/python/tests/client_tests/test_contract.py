"""The client knows the whole contract: each enum value, each field of each message, each method."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import count
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

import session_authority_client as sa
from client_tests.harness import PATIENCE, SERVICE, Connect, Fake, answers
from session_authority.v1 import session_authority_pb2 as pb
from session_authority_client._shared import convert
from session_authority_client.wire import session_authority_pb2 as wire

ENUMS = {name: getattr(sa, name) for name in pb.DESCRIPTOR.enum_types_by_name}
# For each message: the type that users of the client get, and the function that makes it.
VALUES: dict[str, tuple[type, Any]] = {
    "IssueDeviceResponse": (sa.IssuedDevice, convert.issued_device),
    "RenewSessionResponse": (sa.Renewal, convert.renewal),
    "ValidateSessionResponse": (sa.Validation, convert.validation),
    "ListDevicesResponse": (sa.DevicePage, convert.device_page),
    "GetSigningKeysResponse": (sa.SigningKeys, convert.signing_keys),
    "WatchEventsResponse": (sa.EventBatch, convert.event_batch),
    "SessionState": (sa.SessionState, convert.session_state),
    "Device": (sa.Device, convert.device),
}
# The client has no types for these messages: a method returns the contents. The tests of the
# methods check them.
UNWRAPPED = {
    "BatchValidateSessionsResponse",
    "CheckSessionsResponse",
    "RevokeAllResponse",
    "RevokeDeviceResponse",
    "UpdateDeviceResponse",
    "UpdateSessionResponse",
}
# The fields that the contract nests inside an event, and the event's own attributes for them.
FLATTENED = {
    "Event.device.device_id": "device_id",
    "Event.device.display_name": "device_display_name",
    "Event.client.info": "client",
    "Event.client.operating_system": "operating_system",
    "Event.client.browser": "browser",
    "Event.client.form_factor": "form_factor",
}
LEFT_OUT = {"Event.device.last_client": "the device's display name tells its user which one it is"}
PARAMETERS = {
    "WatchEventsRequest.start_time": "since",
    "BatchValidateSessionsRequest.requests": "presented",
}
METHODS = {"BatchValidateSessions": "validate_sessions"}


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def method_of(rpc: str) -> str:
    return METHODS.get(rpc, snake(rpc))


# --- enums ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENUMS)
def test_every_value_of_an_enum_is_known(name: str):
    prefix = snake(name).upper() + "_"
    contract = {
        value.name.removeprefix(prefix): value.number
        for value in pb.DESCRIPTOR.enum_types_by_name[name].values
    }
    assert {member.name: member.value for member in ENUMS[name]} == contract


# --- answers --------------------------------------------------------------------------------------


def filled(descriptor: Descriptor, numbers: Any = None) -> Any:
    """Returns a message in which every field is set. Numbers and texts all differ."""
    numbers = numbers or count(1)
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.containing_oneof is not None and field is not field.containing_oneof.fields[0]:
            continue
        if field.message_type and field.message_type.full_name in TIMES:
            getattr(message, field.name).seconds = 1_700_000_000 + next(numbers)
        elif field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[f"key {next(numbers)}"] = f"value {next(numbers)}"
        elif field.message_type and field.is_repeated:
            getattr(message, field.name).add().CopyFrom(filled(field.message_type, numbers))
        elif field.message_type:
            getattr(message, field.name).CopyFrom(filled(field.message_type, numbers))
        elif field.is_repeated:
            getattr(message, field.name).append(scalar(field, numbers))
        else:
            setattr(message, field.name, scalar(field, numbers))
    return message


TIMES = {"google.protobuf.Timestamp", "google.protobuf.Duration"}


def scalar(field: FieldDescriptor, numbers: Any) -> Any:
    if field.enum_type is not None:
        # The first value after UNSPECIFIED. Of a session status it is ACTIVE, with which all other
        # fields are set.
        return field.enum_type.values[1].number
    kinds: dict[int, Any] = {
        FieldDescriptor.CPPTYPE_STRING: lambda: f"text {next(numbers)}",
        FieldDescriptor.CPPTYPE_BOOL: lambda: True,
        FieldDescriptor.CPPTYPE_INT32: lambda: next(numbers),
        FieldDescriptor.CPPTYPE_UINT32: lambda: next(numbers),
    }
    return kinds[field.cpp_type]()


def check(message: Any, value: Any, path: str, seen: set[str]) -> None:
    """Compares a message with the value made from it, field by field. Adds the names of the
    compared attributes to `seen`.
    """
    for field in message.DESCRIPTOR.fields:
        here = f"{path}.{field.name}"
        if here in LEFT_OUT:
            continue
        came = getattr(message, field.name)
        if path.count(".") == 0 and any(inner.startswith(f"{here}.") for inner in FLATTENED):
            check(came, value, here, seen)
            continue
        name = FLATTENED.get(here, field.name)
        assert name in {known.name for known in fields(value)}, (
            f"{here} is nowhere in {type(value).__name__}"
        )
        seen.add(name)
        compare(came, getattr(value, name), here)


def compare(came: Any, became: Any, here: str) -> None:
    if isinstance(became, datetime):
        assert became == datetime.fromtimestamp(came.seconds, UTC), here
        assert became.tzinfo is UTC
    elif isinstance(became, timedelta):
        assert became == timedelta(seconds=came.seconds), here
    elif isinstance(became, Enum):
        assert became.value == came, here
    elif isinstance(became, Mapping):
        assert dict(became) == dict(came), here
    elif is_dataclass(became):
        whole(came, became)
    elif isinstance(became, Sequence) and not isinstance(became, str):
        assert len(became) == len(came), here
        for one, other in zip(came, became, strict=True):
            compare(one, other, here)
    else:
        assert (type(became), became) == (type(came), came), here


def whole(message: Any, value: Any) -> None:
    seen: set[str] = set()
    check(message, value, message.DESCRIPTOR.name, seen)
    assert seen == {field.name for field in fields(value)}, (
        "it has something that the contract has not"
    )


@pytest.mark.parametrize("name", VALUES)
def test_every_field_of_an_answer_arrives(name: str):
    kind, made_by = VALUES[name]
    message = filled(pb.DESCRIPTOR.message_types_by_name[name])
    value = made_by(
        GetMessageClass(wire.DESCRIPTOR.message_types_by_name[name]).FromString(
            message.SerializeToString()
        )
    )
    assert type(value) is kind
    whole(message, value)


def test_every_answer_is_in_the_table():
    assert {method.output_type.name for method in SERVICE.methods} <= VALUES.keys() | UNWRAPPED


@pytest.mark.parametrize("name", VALUES)
def test_an_empty_answer_can_be_converted(name: str):
    value = VALUES[name][1](getattr(wire, name)())
    for field in fields(value):
        found = getattr(value, field.name)
        assert found is None or not isinstance(found, datetime) or found.year == 1970


# --- requests -------------------------------------------------------------------------------------


def given(message: Any) -> dict[str, Any]:
    """Returns the arguments with which a method sends this message."""
    arguments: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = PARAMETERS.get(f"{message.DESCRIPTOR.name}.{field.name}", field.name)
        value = getattr(message, field.name)
        if field.name == "client":
            value = sa.ClientInfo(
                **{inner.name: getattr(value, inner.name) for inner in value.DESCRIPTOR.fields}
            )
        elif field.name == "requests":
            value = [(item.access_token, item.device_id) for item in value]
        elif field.name == "sessions":
            value = [sa.SessionName(one.user_id, one.device_id, one.session_id) for one in value]
        elif field.name == "types":
            value = [sa.EventType(number) for number in value]
        elif field.message_type and field.message_type.full_name == "google.protobuf.Duration":
            value = value.ToTimedelta()
        elif field.message_type and field.message_type.full_name == "google.protobuf.Timestamp":
            value = value.ToDatetime(UTC)
        elif field.is_repeated:
            value = dict(value) if field.message_type else list(value)
        arguments[name] = value
    return arguments


@pytest.mark.parametrize("rpc", [method.name for method in SERVICE.methods])
async def test_every_field_of_a_request_can_be_given_and_is_sent(
    connect: Connect, fake: Fake, rpc: str
):
    message = filled(SERVICE.methods_by_name[rpc].input_type)
    if rpc == "BatchValidateSessions":
        # The tokens of a batch come from many clients. A caller that describes a client validates
        # one token at a time.
        for item in message.requests:
            item.ClearField("client")
            item.ClearField("observe_only")
            item.ClearField("passive")
    async with connect(fake.address, timeout=PATIENCE) as authority:
        called = getattr(authority, method_of(rpc))(**given(message))
        if SERVICE.methods_by_name[rpc].server_streaming:
            assert [batch async for batch in called] == []
        else:
            await called
    (call,) = fake.calls
    assert (call.method, call.request) == (rpc, message)


@pytest.mark.parametrize("kind", [sa.AsyncSessionAuthority, sa.SessionAuthority])
def test_every_rpc_has_a_method_with_a_timeout_unless_it_streams(kind: type):
    for method in SERVICE.methods:
        parameters = inspect.signature(getattr(kind, method_of(method.name))).parameters
        assert ("timeout" in parameters) != method.server_streaming


# --- from a newer service -------------------------------------------------------------------------


UNKNOWN: Any = 99


def good() -> Any:
    message = pb.ValidateSessionResponse(active=True, status=pb.SESSION_STATUS_ACTIVE)
    message.session.user_id = "ada"
    return message


async def test_an_unknown_status_is_not_active(connect: Connect, fake: Fake):
    unknown = good()
    unknown.status = UNKNOWN
    renewed = pb.RenewSessionResponse(status=UNKNOWN, access_token="x")
    fake.acts.extend([answers(good()), answers(unknown), answers(renewed)])
    async with connect(fake.address, timeout=PATIENCE) as authority:
        assert (await authority.validate_session("t", "d")).active
        found = await authority.validate_session("t", "d")
        renewal = await authority.renew_session("t", "d")
    assert (found.active, found.status, found.session) == (
        False,
        sa.SessionStatus.UNSPECIFIED,
        None,
    )
    assert not found
    assert (renewal.active, renewal.status) == (False, sa.SessionStatus.UNSPECIFIED)
    assert not renewal


@pytest.mark.parametrize(
    "status", [status for status in sa.SessionStatus if status is not sa.SessionStatus.ACTIVE]
)
def test_only_an_active_answer_is_true(status: sa.SessionStatus):
    message: Any = wire.ValidateSessionResponse.FromString(good().SerializeToString())
    assert convert.validation(message)
    message.status = status.value
    found = convert.validation(message)
    assert not found
    assert not found.active
    assert (found.status, found.session) == (status, None)
    renewed: Any = wire.RenewSessionResponse(
        status=wire.SESSION_STATUS_ACTIVE, session=message.session
    )
    assert convert.renewal(renewed)
    renewed.status = status.value
    other = convert.renewal(renewed)
    assert not other
    assert (other.active, other.status, other.session) == (False, status, None)


def test_an_answer_that_contradicts_itself_is_not_active():
    for field in ("active", "status", "session"):
        message = wire.ValidateSessionResponse.FromString(good().SerializeToString())
        message.ClearField(field)
        assert not convert.validation(message), field
    renewal = convert.renewal(wire.RenewSessionResponse(status=wire.SESSION_STATUS_ACTIVE))
    assert not renewal
    assert (renewal.active, renewal.session) == (False, None)


def test_an_unknown_type_of_event_is_unspecified():
    message = wire.WatchEventsResponse(events=[wire.Event(event_id="e1")])
    message.events[0].type = message.events[0].replay_cause = message.events[0].replay_action = (
        UNKNOWN
    )
    message.events[0].client.form_factor = UNKNOWN
    (event,) = convert.event_batch(message).events
    assert (event.type, event.replay_cause) == (
        sa.EventType.UNSPECIFIED,
        sa.ReplayCause.UNSPECIFIED,
    )
    assert (event.replay_action, event.form_factor) == (
        sa.ReplayAction.UNSPECIFIED,
        sa.FormFactor.UNSPECIFIED,
    )


# --- values ---------------------------------------------------------------------------------------


def validation() -> sa.Validation:
    message: Any = wire.ValidateSessionResponse.FromString(good().SerializeToString())
    message.session.claims["plan"] = "pro"
    return convert.validation(message)


@pytest.mark.parametrize(
    "again", [lambda v: pickle.loads(pickle.dumps(v)), copy.deepcopy, copy.copy]
)
def test_an_answer_can_be_copied_and_pickled(again: Any):
    answer, other = validation(), again(validation())
    assert other == answer
    assert hash(other) == hash(answer)
    assert len({answer, other, answer.session, other.session}) == 2
    with pytest.raises(TypeError):
        other.session.claims["plan"] = "free"


def test_an_answer_can_be_turned_into_a_dict_and_into_json():
    told = asdict(validation())
    assert json.loads(json.dumps(told["session"], default=str))["claims"] == {"plan": "pro"}
    assert (told["status"], told["session"]["user_id"]) == (sa.SessionStatus.ACTIVE, "ada")


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims.__setitem__("plan", "free"),
        lambda claims: claims.__delitem__("plan"),
        lambda claims: claims.__ior__({"plan": "free"}),
        lambda claims: claims.clear(),
        lambda claims: claims.pop("plan"),
        lambda claims: claims.popitem(),
        lambda claims: claims.setdefault("role", "admin"),
        lambda claims: claims.update(plan="free"),
    ],
)
def test_the_claims_of_an_answer_can_not_be_changed(change: Any):
    given = {"plan": "pro"}
    found: Any = validation().session
    for session in (found, dataclasses.replace(found, claims=given)):
        with pytest.raises(TypeError, match="claims can't be changed"):
            change(session.claims)
        given["plan"] = "free"
        assert session.claims == {"plan": "pro"}
        assert session.claims | {"role": "admin"} == {"plan": "pro", "role": "admin"}
        given["plan"] = "pro"


# --- secrets --------------------------------------------------------------------------------------


def test_tokens_are_not_shown():
    issued = convert.issued_device(wire.IssueDeviceResponse(access_token="hunter2"))
    renewed = convert.renewal(wire.RenewSessionResponse(access_token="hunter2"))
    assert (issued.access_token, renewed.access_token) == ("hunter2", "hunter2")
    assert "hunter2" not in f"{issued!r} {renewed!r} {issued} {renewed}"
