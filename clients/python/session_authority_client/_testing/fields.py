"""Checks requests against the rules of the service with its default settings. Each function returns
the fields that break rules, each with its rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from session_authority_client._testing.rules import SESSION_TTL, broken_fields, uuid_of
from session_authority_client.wire import session_authority_pb2 as pb

Broken = list[tuple[str, str]]

_SHORTEST_SESSION = timedelta(seconds=1)
_SHORTEST_IDLE_TIMEOUT = timedelta(minutes=2)
_IDLE_TIMEOUT = timedelta(days=7)
IDLE_LIMITS = {
    "min_seconds": str(int(_SHORTEST_IDLE_TIMEOUT.total_seconds())),
    "max_seconds": str(int(_IDLE_TIMEOUT.total_seconds())),
}
"""The limits, in seconds, that the service names when it refuses an idle timeout."""
_MAX_BATCH = 500
_MAX_CLAIMS_BYTES = 1024
_MAX_AUTH_METHODS = 8
_RESERVED_CLAIMS = frozenset(
    "iss aud sub dk sid gen jti iat nbf exp auth_time amr acr azp act may_act cnf nonce client_id"
    " typ scope roles groups entitlements permissions".split()
)
_NAME = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,128}", re.ASCII)
_NAME_RULE = "1 to 128 letters, digits or characters of a URI, like '_', '-', '.', ':', '/' or '#'"
_SESSION_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


def of_sign_in(request: pb.IssueDeviceRequest) -> Broken:
    """Returns the fields of a sign-in that break rules, each with its rule."""
    broken = broken_fields({"user_id": request.user_id})
    broken += of_claims(request.claims)
    broken += _of_auth_methods(request.auth_methods)
    if request.HasField("session_ttl"):
        limits = _SHORTEST_SESSION, SESSION_TTL
        broken += _of_time("session_ttl", request.session_ttl, *limits)
    if request.request_id and not uuid_of(request.request_id):
        broken.append(("request_id", "must be a UUID"))
    if request.HasField("idle_timeout"):
        limits = _SHORTEST_IDLE_TIMEOUT, _IDLE_TIMEOUT
        broken += _of_time("idle_timeout", request.idle_timeout, *limits)
    return broken


def of_claims(claims: Mapping[str, str]) -> Broken:
    """Checks the claims of a session. Returns the fields that break rules, each with its rule."""
    broken = []
    if any(_NAME.fullmatch(name) is None for name in claims):
        broken.append(("claims", f"names must be {_NAME_RULE}"))
    reserved = sorted(_RESERVED_CLAIMS & claims.keys())
    broken += [(f"claims.{name}", "is a reserved name") for name in reserved]
    written = json.dumps(dict(claims), ensure_ascii=False, separators=(",", ":"))
    if len(written.encode()) > _MAX_CLAIMS_BYTES:
        broken.append(("claims", f"must have at most {_MAX_CLAIMS_BYTES} bytes as JSON"))
    return broken


def _of_auth_methods(methods: Sequence[str]) -> Broken:
    broken = []
    if len(methods) > _MAX_AUTH_METHODS:
        broken.append(("auth_methods", f"must have at most {_MAX_AUTH_METHODS} entries"))
    for i, method in enumerate(methods[:_MAX_AUTH_METHODS]):
        if _NAME.fullmatch(method) is None:
            broken.append((f"auth_methods[{i}]", f"must be {_NAME_RULE}"))
    return broken


def _of_time(name: str, asked: Duration, shortest: timedelta, longest: timedelta) -> Broken:
    # The field `seconds` of a Duration can have values that are too large for a timedelta. So the
    # value of `seconds` is limited to a billion, which is still outside the allowed range.
    seconds = min(max(asked.seconds, -(10**9)), 10**9)
    if shortest <= timedelta(seconds=seconds, microseconds=asked.nanos // 1000) <= longest:
        return []
    limits = (int(limit.total_seconds()) for limit in (shortest, longest))
    return [(name, "must be from {} to {} seconds".format(*limits))]


def of_batch(size: int, name: str) -> Broken:
    """Returns the field `name` with its rule if a batch of this size is not allowed, else an empty
    list. `name` is the field of the request that has the entries of the batch.
    """
    in_range = 1 <= size <= _MAX_BATCH
    return [] if in_range else [(name, f"must be 1 to {_MAX_BATCH} {name}, not {size}")]


def of_session_name(name: pb.SessionName) -> Broken:
    """Returns the fields of a session's name that break rules, each with its rule."""
    broken = broken_fields({"user_id": name.user_id, "device_id": name.device_id})
    if _SESSION_ID.fullmatch(name.session_id) is None:
        broken.append(("session_id", "must be 32 hexadecimal digits"))
    return broken
