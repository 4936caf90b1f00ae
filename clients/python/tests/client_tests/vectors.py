"""Reads the cases of clients/vectors, which the clients of all languages share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest

from session_authority_client import SessionAuthorityError, errors
from session_authority_client.cookies import Cookies, SameSite
from session_authority_client.flow import Flow

FOLDER = Path(__file__).parents[3] / "vectors"
SKIPS = Path(__file__).parents[2] / "vectors.skip.json"

# The vectors' names for settings of `Cookies`. Settings of `Flow` have the same name in both.
_OF_COOKIES = {
    "token_cookie": "token",
    "device_cookie": "device",
    "same_site": "same_site",
    "device_same_site": "device_same_site",
    "insecure_cookies": "insecure",
}


@dataclass(frozen=True)
class Case:
    """One case of a file. Its `settings` are those of the file, overridden by its own."""

    id: str
    given: Mapping[str, Any]
    expected: Mapping[str, Any]
    settings: Mapping[str, Any]


@cache
def cases_of(name: str) -> Sequence[Case]:
    """The cases of a file."""
    read = json.loads((FOLDER / f"{name}.json").read_text())
    defaults = read.get("settings", {})
    return [
        Case(
            case["id"],
            case["given"],
            case["expected"],
            {**defaults, **case["given"].get("settings", {})},
        )
        for case in read["cases"]
    ]


def skips() -> Mapping[str, str]:
    """The reason for each case that this client skips, by `file/id`."""
    found: Mapping[str, str] = json.loads(SKIPS.read_text())
    return found


def each(name: str, operation: str | None = None) -> Callable[[Any], Any]:
    """Parametrizes a test with each case of a file, or with the cases of one operation in it."""
    skipped = skips()
    rows = []
    for case in cases_of(name):
        if operation in (None, case.given.get("operation")):
            reason = skipped.get(f"{name}/{case.id}")
            marks = () if reason is None else (pytest.mark.skip(reason=reason),)
            rows.append(pytest.param(case, id=case.id, marks=marks))
    return pytest.mark.parametrize("case", rows)


def cookies_of(settings: Mapping[str, Any]) -> Cookies:
    """The cookies of an app with these settings. Raises ValueError."""
    named = {mine: settings[name] for name, mine in _OF_COOKIES.items()}
    for rule in ("same_site", "device_same_site"):
        named[rule] = _RULES.get(named[rule], named[rule])
    return Cookies(**named)


_RULES = {"strict": SameSite.STRICT, "lax": SameSite.LAX}


def flow_of(settings: Mapping[str, Any]) -> Flow:
    """The flow of an app with these settings. Raises ValueError."""
    others = {name: value for name, value in settings.items() if name not in _OF_COOKIES}
    return Flow(cookies_of(settings), **others)


def headers_of(pairs: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The headers of a request, by their names."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.lower(), []).append(value)
    return found


KINDS: Mapping[str, type[SessionAuthorityError]] = {
    "invalid_request": errors.InvalidRequest,
    "request_id_reused": errors.RequestIdReused,
    "request_id_spent": errors.RequestIdSpent,
    "device_limit_reached": errors.DeviceLimitReached,
    "device_not_found": errors.DeviceNotFound,
    "session_not_found": errors.SessionNotFound,
    "conflict": errors.Conflict,
    "cursor_expired": errors.CursorExpired,
    "caller_unknown": errors.CallerUnknown,
    "caller_not_allowed": errors.CallerNotAllowed,
    "overloaded": errors.Overloaded,
    "unavailable": errors.Unavailable,
    "not_replicated": errors.NotReplicated,
    "internal_error": errors.InternalError,
    "other": SessionAuthorityError,
}


def error_of_kind(kind: str, retry_after_seconds: float | None) -> SessionAuthorityError:
    """The error that the service of a case answers with."""
    wait = None if retry_after_seconds is None else timedelta(seconds=retry_after_seconds)
    return KINDS[kind]("secret", grpc.StatusCode.UNAVAILABLE, retry_after=wait)
