"""Checks the types of a call's arguments. The text of an exception names the wrong argument, or the
field that is wrong in one of several sessions or pairs. The service checks the contents of most
arguments. A function of this module that also checks the contents says so in its docstring.

Without checks of types, protobuf would misunderstand some arguments. For example, protobuf would
read the text "ab" as the list of "a" and "b". An exception of protobuf also does not name the wrong
field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import grpc

from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client.errors import FieldViolation, InvalidRequest
from session_authority_client.types import SessionName
from session_authority_client.wire import session_authority_pb2 as pb


def _not(name: str, wanted: str, value: object) -> TypeError:
    return TypeError(f"{name}: {wanted}, not {type(value).__name__}")


def _broken(name: str, rule: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: {rule}",
        grpc.StatusCode.INVALID_ARGUMENT,
        violations=[FieldViolation(name, rule)],
    )


def seconds(name: str, value: timedelta) -> float:
    """Checks a timeout, and returns it in seconds. Raises TypeError if the value is no timedelta,
    and ValueError if the timeout is not more than zero.
    """
    if duration(name, value) <= timedelta(0):
        raise ValueError(f"{name}: more than nothing")
    return value.total_seconds()


def duration(name: str, value: timedelta) -> timedelta:
    """Checks that a value is a timedelta, and returns the value. Raises TypeError if the value is
    no timedelta.
    """
    if not isinstance(value, timedelta):
        raise _not(name, "a timedelta", value)
    return value


def aware(name: str, value: datetime) -> datetime:
    """Checks that a datetime has a time zone, and returns the datetime. Raises ValueError if the
    datetime has no time zone, and TypeError if the value is no datetime.
    """
    if not isinstance(value, datetime):
        raise _not(name, "a datetime", value)
    if value.utcoffset() is None:
        raise ValueError(f"{name}: must be aware, such as datetime.now(UTC); it has no time zone")
    return value


def flag(name: str, value: bool) -> bool:
    """Checks that a value is a bool, and returns the value. Raises TypeError if the value is no
    bool.
    """
    if not isinstance(value, bool):
        raise _not(name, "a bool", value)
    return value


def whole(name: str, value: int) -> int:
    """Checks that a value is a whole number, and returns the value. Raises TypeError if the value
    is no int, or is a bool.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise _not(name, "an int", value)
    return value


def any_text(name: str, value: str) -> str:
    """Checks that a value is a str, and returns the value. The code that calls this function must
    check the contents of the value. Raises TypeError if the value is no str.
    """
    if not isinstance(value, str):
        raise _not(name, "a str", value)
    return value


def text(name: str, value: str) -> str:
    """Checks a text, and returns it. Raises TypeError if the value is no str. Raises InvalidRequest
    if UTF-8 can't encode the text, because the text has half of a surrogate pair.
    """
    if not any_text(name, value).isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _broken(name, "must be text that UTF-8 can hold") from None
    return value


def device_id(name: str, value: str) -> str:
    """Checks a device ID, and returns it in the usual form: 36 characters in lower case. Raises
    TypeError if the value is no str, and InvalidRequest if the text is no device ID.
    """
    found = canonical_device_id(any_text(name, value))
    if not found:
        raise _broken(name, "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000")
    return found


def presented(name: str, value: str) -> str:
    """Checks that a value from an end user's request is a str, and returns it as text that UTF-8
    can encode. Characters that UTF-8 can't encode become question marks. This function accepts any
    contents, because the service checks the contents. Raises TypeError if the value is no str.
    """
    if not isinstance(value, str):
        raise _not(name, "a str (empty if there is none)", value)
    return value if value.isascii() else value.encode(errors="replace").decode()


def texts(name: str, values: Iterable[str]) -> list[str]:
    """Checks several texts, and returns them as a list. Raises TypeError if a value is no str, and
    InvalidRequest if UTF-8 can't encode a text. Also raises TypeError for a single text, because a
    loop would split the text into letters.
    """
    if isinstance(values, str | bytes):
        raise _not(name, "several texts", values)
    return [text(name, value) for value in values]


def claims(values: Mapping[str, str] | None) -> dict[str, str] | None:
    """Checks the claims about a user, and returns them as a dict. Returns None if `values` is None.
    Raises TypeError if the claims are no mapping of texts to texts, and InvalidRequest if UTF-8
    can't encode a text.
    """
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise _not("claims", "a mapping of texts to texts", values)
    return {text("claims", name): text(f"claims[{name}]", value) for name, value in values.items()}


def pairs(name: str, values: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Checks pairs of an access token and a device ID, and returns them as a list. Raises TypeError
    if a value is not a tuple or list of two texts.
    """
    found = []
    for value in values:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise TypeError(f"{name}: pairs of access token and device ID")
        found.append((presented("access_token", value[0]), presented("device_id", value[1])))
    return found


def session_names(name: str, values: Iterable[SessionName]) -> list[pb.SessionName]:
    """Checks names of sessions, and converts them to protobuf messages. Raises TypeError if a value
    is no SessionName or has a field that is no str. Raises InvalidRequest if UTF-8 can't encode a
    field.
    """
    found = []
    for value in values:
        if not isinstance(value, SessionName):
            raise _not(name, "each a SessionName", value)
        found.append(
            pb.SessionName(
                user_id=text("user_id", value.user_id),
                device_id=text("device_id", value.device_id),
                session_id=text("session_id", value.session_id),
            )
        )
    return found


def members(name: str, kind: type[Any], values: Iterable[Any]) -> list[Any]:
    """Checks several members of the enum `kind`, and returns them as a list. Raises TypeError if a
    value is no member of this enum. Also raises TypeError for a single member or a text instead of
    several members.
    """
    if isinstance(values, kind | str):
        raise _not(name, f"several of {kind.__name__}", values)
    found = list(values)
    for value in found:
        if not isinstance(value, kind):
            raise _not(name, f"each of {kind.__name__}", value)
    return found
