"""Proves that the gateway's messages for Envoy are the same on the wire as Envoy's messages.

Every field of our messages has the number and the type of Envoy's field. A full message of Envoy
also has the fields that our message leaves out. If our message reads and writes such a message, the
message comes out unchanged. One process can have our messages and Envoy's messages. The script uses
nothing but the stubs and xds-protos.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent.parent))

from envoy.config.core.v3 import address_pb2, base_pb2  # noqa: E402  the path comes first
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2  # noqa: E402
from google.protobuf.descriptor import FieldDescriptor  # noqa: E402

from session_authority.internal.v1 import external_authorization_pb2 as ours  # noqa: E402

# Our messages may read text as bytes, and an enum value as its number.
_SAME_ON_THE_WIRE = {
    FieldDescriptor.TYPE_STRING: FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32,
}
_CONTEXT = attribute_context_pb2.AttributeContext
# Our messages that are compared field by field, with all messages inside them.
_PAIRS = (
    (ours.CheckRequest.DESCRIPTOR, external_auth_pb2.CheckRequest.DESCRIPTOR),
    (ours.CheckResponse.DESCRIPTOR, external_auth_pb2.CheckResponse.DESCRIPTOR),
)
_TEXT_VALUES = ("", "value", "a=1,b=2; c", "ü")


class Differs(Exception):
    """A message of ours differs from Envoy's message on the wire."""


def compare(mine: Any, theirs: Any, seen: set[str]) -> None:
    """Compares two types of messages, and all types inside them. Raises Differs."""
    if mine.full_name in seen or mine.full_name == theirs.full_name:
        return
    seen.add(mine.full_name)
    for field in mine.fields:
        other = theirs.fields_by_number.get(field.number)
        where = f"{mine.name}.{field.name}"
        if other is None or other.name != field.name:
            raise Differs(f"{where}: Envoy has {other and other.name!r} at {field.number}")
        if other.type != field.type and _SAME_ON_THE_WIRE.get(other.type) != field.type:
            raise Differs(f"{where}: has another type than Envoy's")
        if other.is_repeated != field.is_repeated:
            raise Differs(f"{where}: is repeated in one of the two")
        oneofs = [f.containing_oneof and f.containing_oneof.name for f in (field, other)]
        if oneofs[0] != oneofs[1] and len(mine.fields) > 1:
            raise Differs(f"{where}: is in another oneof")
        if field.enum_type is not None:
            _compare_enums(where, field.enum_type, other.enum_type)
        if field.message_type is not None:
            compare(field.message_type, other.message_type, seen)


def _compare_enums(where: str, mine: Any, theirs: Any) -> None:
    for value in mine.values:
        other = theirs.values_by_number.get(value.number)
        if other is None or not value.name.endswith(f"_{other.name}"):
            raise Differs(f"{where}: {value.name} is {other and other.name!r} of Envoy's")


def fill(message: Any, depth: int = 5) -> Any:
    """Sets every field of an Envoy message, down to a depth of nested messages."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and depth == 0:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for text in _TEXT_VALUES:
                _put(getattr(message, field.name), field.message_type, text, depth)
        elif field.message_type is not None and field.is_repeated:
            for _ in range(2):
                fill(getattr(message, field.name).add(), depth - 1)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), depth - 1)
        elif field.is_repeated:
            getattr(message, field.name).extend([_scalar(field)] * 2)
        else:
            setattr(message, field.name, _scalar(field))
    return message


def _put(mapping: Any, entry: Any, text: str, depth: int) -> None:
    value = entry.fields_by_name["value"]
    key = f"x-{text}"
    if value.message_type is not None:
        mapping[key].SetInParent()
        fill(mapping[key], depth - 1)
    else:
        mapping[key] = text if value.type == FieldDescriptor.TYPE_STRING else _scalar(value)


def _scalar(field: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_STRING:
        return "text"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"\xff\x00bytes"
    return True if field.type == FieldDescriptor.TYPE_BOOL else 1


def check_round_trip(mine: Any, theirs: Any) -> None:
    """Checks that a full Envoy message passes through our message unchanged. Raises Differs."""
    sent = fill(theirs())
    if theirs.FromString(mine.FromString(sent.SerializeToString()).SerializeToString()) != sent:
        raise Differs(f"{theirs.DESCRIPTOR.full_name} comes back changed")


def check_reading() -> None:
    """Checks that our messages read what Envoy writes. Raises Differs."""
    http = _CONTEXT.HttpRequest(method="GET", path="/a?b", host="app.example", scheme="https")
    http.headers["cookie"] = "a=1"
    http.header_map.headers.add(key="cookie", raw_value=b"\xff")
    address = address_pb2.SocketAddress(address="203.0.113.7", port_value=9)
    sent = external_auth_pb2.CheckRequest(
        attributes=_CONTEXT(
            source=_CONTEXT.Peer(address=address_pb2.Address(socket_address=address)),
            request=_CONTEXT.Request(http=http),
            context_extensions={"session": "optional"},
        )
    )
    read = ours.CheckRequest.FromString(sent.SerializeToString()).attributes
    found = (
        (read.request.http.method, read.request.http.path, read.request.http.host),
        dict(read.request.http.headers),
        read.request.http.header_map.headers[0].raw_value,
        read.source.address.socket_address.address,
        dict(read.context_extensions),
    )
    wanted = (
        (b"GET", b"/a?b", b"app.example"),
        {"cookie": b"a=1"},
        b"\xff",
        "203.0.113.7",
        {"session": "optional"},
    )
    if found != wanted:
        raise Differs(f"ours read {found}")


def check_writing() -> None:
    """Checks that Envoy reads what our messages write. Raises Differs."""
    option = ours.HeaderValueOption
    sent = ours.CheckResponse(status=ours.CheckResponse.Status(code=0))
    sent.ok_response.headers.add(
        header=ours.HeaderValue(key=b"x-session-user", value=b"ada"),
        append_action=option.HEADER_APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD,
        keep_empty_value=True,
    )
    read = external_auth_pb2.CheckResponse.FromString(sent.SerializeToString())
    wanted = base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key="x-session-user", value="ada"),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        keep_empty_value=True,
    )
    if read.WhichOneof("http_response") != "ok_response" or read.ok_response.headers[0] != wanted:
        raise Differs(f"Envoy reads {read}")


def main() -> None:
    """Runs all checks. Raises Differs if one of them fails."""
    seen: set[str] = set()
    for mine, theirs in _PAIRS:
        compare(mine, theirs, seen)
    if missing := {m.full_name for m in _all_messages(ours.DESCRIPTOR)} - seen:
        raise Differs(f"never compared: {', '.join(sorted(missing))}")
    check_round_trip(ours.CheckRequest, external_auth_pb2.CheckRequest)
    check_round_trip(ours.CheckResponse, external_auth_pb2.CheckResponse)
    check_reading()
    check_writing()
    if "--quiet" not in sys.argv:
        print(f"{len(seen)} messages are Envoy's on the wire.")


def _all_messages(holder: Any) -> list[Any]:
    held = getattr(holder, "message_types_by_name", None) or holder.nested_types_by_name
    found = list(held.values())
    return [m for one in found for m in (one, *_nested(one))]


def _nested(message: Any) -> list[Any]:
    return [m for one in message.nested_types for m in (one, *_nested(one))]


if __name__ == "__main__":
    main()
