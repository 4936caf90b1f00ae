"""Checks the fields of requests.

Other modules check tokens, page tokens, cursors, places and client hints. A `FieldChecks` collects
all violations of one request, so that one error names all violations. Each method for a field
returns the checked value, except `batch`. If the field breaks its rule, the returned value is
meaningless, and `done` raises InvalidRequest later.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from session_authority.domain.addresses import shown_address
from session_authority.domain.clients import Client
from session_authority.domain.errors import FieldViolation, InvalidRequest
from session_authority.domain.events import EventType
from session_authority.domain.identifiers import parse_uuid
from session_authority.domain.idle_timeouts import shortened
from session_authority.domain.moments import LAST_SECOND, from_seconds
from session_authority.domain.text import cleaned, cut, is_name

MAX_USER_ID_CHARACTERS = 255
MAX_USER_AGENT_BYTES = 512
MAX_DISPLAY_NAME_CHARACTERS = 100
MAX_APP_VERSION_CHARACTERS = 64
MAX_REASON_CHARACTERS = 128
MAX_CLAIMS_BYTES = 1024
MAX_CLAIM_NAME_CHARACTERS = 128
MAX_AUTH_METHODS = 8
MAX_AUTH_METHOD_CHARACTERS = 128
MAX_BATCH = 500
MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 50
MAX_WATCHED_USERS = 1000
MIN_SESSION_TTL = timedelta(seconds=1)

# Names that a claim must not have, because they already have a meaning in a token. Standards (RFC
# 7519, RFC 8693, RFC 9068, OpenID Connect Core) define most of these names, and this service
# defines the others (for example, `dk` and `gen`). Names of permissions (RFC 9068 §2.2.3.1) are
# reserved, too, because a permission must not last as long as a session.
RESERVED_CLAIMS = frozenset(
    "iss aud sub dk sid gen jti iat nbf exp auth_time amr acr azp act may_act cnf nonce client_id"
    " typ scope roles groups entitlements permissions".split()
)
# Claims of the largest allowed size, for computing whether any allowed claims fit into a token.
LARGEST_CLAIMS = {"a": "b" * (MAX_CLAIMS_BYTES - len('{"a":""}'))}
# The characters of URIs (RFC 3986 §2). OpenID providers and SAML use URIs as names of claims and of
# authentication methods.
_URI_CHARACTERS = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]"
_URI_RULE = "letters, digits or characters of a URI, like '_', '-', '.', ':', '/' or '#'"
_CLAIM_NAME = re.compile(rf"{_URI_CHARACTERS}{{1,{MAX_CLAIM_NAME_CHARACTERS}}}", re.ASCII)
_SESSION_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_AUTH_METHOD = re.compile(rf"{_URI_CHARACTERS}{{1,{MAX_AUTH_METHOD_CHARACTERS}}}", re.ASCII)


class FieldChecks:
    """Checks the fields of one request. Make a new instance for each request, and call `done` after
    the last field.
    """

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []
        self._metadata: dict[str, str] = {}

    def done(self) -> None:
        """Raises InvalidRequest if any field broke its rule."""
        if self._violations:
            raise InvalidRequest(self._violations, self._metadata)

    def _broken(self, field: str, rule: str) -> None:
        self._violations.append(FieldViolation(field, rule))

    def user_id(self, value: str, field: str = "user_id") -> str:
        """Checks a user ID: 1–255 characters, no white space at the ends, and no control characters
        or other invisible characters (`is_name` has the exact rule). The user ID is not normalized,
        so two different spellings in Unicode are two users.
        """
        if not value:
            self._broken(field, "must not be empty")
        elif len(value) > MAX_USER_ID_CHARACTERS:
            self._broken(field, f"must have at most {MAX_USER_ID_CHARACTERS} characters")
        elif not is_name(value):
            self._broken(
                field,
                "must have no control or other unprintable characters, and no white space at the"
                " ends",
            )
        return value

    def device_id(self, value: str, field: str = "device_id") -> UUID:
        """Checks a device ID that must be a UUID. If a malformed device ID counts as missing in a
        request, use `parse_uuid` instead.
        """
        parsed = parse_uuid(value)
        if parsed is None:
            self._broken(field, "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000")
            return UUID(int=0)
        return parsed

    def optional_device_id(self, value: str, field: str) -> UUID | None:
        """Checks a device ID that may be missing. Returns None for an empty text."""
        return self.device_id(value, field) if value else None

    def client(
        self,
        ip_address: str,
        user_agent: str,
        display_name: str,
        app_version: str,
    ) -> Client:
        """Returns the client in a form that can be shown. Facts that can't be shown are left out,
        and long texts are cut. So no client breaks a rule.

        Args:
            ip_address: A text with an IP address.
            user_agent: The user agent, which is cut at 512 bytes.
            display_name: The name that the app gives the device, which is cut at 100 characters.
            app_version: The version of the app, which is cut at 64 characters.
        """
        return Client(
            ip_address=shown_address(ip_address),
            user_agent=cut_user_agent(user_agent),
            display_name=cut(cleaned(display_name), MAX_DISPLAY_NAME_CHARACTERS),
            app_version=cut(cleaned(app_version), MAX_APP_VERSION_CHARACTERS),
        )

    def display_name(self, value: str) -> str:
        """Cleans and checks a name that a user gives a device. The cleaned name has at most 100
        characters, and may be empty. A text of white space alone counts as empty. A text of other
        invisible characters alone breaks the rule.
        """
        name = cleaned(value)
        if len(name) > MAX_DISPLAY_NAME_CHARACTERS:
            self._broken(
                "display_name", f"must have at most {MAX_DISPLAY_NAME_CHARACTERS} characters"
            )
        elif value and not name and not value.isspace():
            self._broken("display_name", "must have a character that can be seen")
        return name

    def reason(self, value: str) -> str:
        """Returns the reason of a revocation in a form that can be shown: cleaned, and cut at 128
        characters.
        """
        return cut(cleaned(value), MAX_REASON_CHARACTERS)

    def claims(self, value: Mapping[str, str]) -> dict[str, str]:
        """Checks the claims for a session. Each name must have 1–128 characters of a URI, and must
        not be reserved. The JSON of all claims, which goes into the token, must have at most 1 KiB.
        """
        if any(_CLAIM_NAME.fullmatch(name) is None for name in value):
            self._broken("claims", f"names must be 1 to {MAX_CLAIM_NAME_CHARACTERS} {_URI_RULE}")
        for name in sorted(RESERVED_CLAIMS & value.keys()):
            self._broken(f"claims.{name}", "is a reserved name")
        claims = dict(value)
        # The size of the JSON counts, not the size of the texts, because JSON spells some
        # characters with six bytes. The use cases also check the size of the whole token.
        if (
            claims
            and len(json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode())
            > MAX_CLAIMS_BYTES
        ):
            self._broken("claims", f"must have at most {MAX_CLAIMS_BYTES} bytes as JSON")
        return claims

    def auth_methods(self, value: Sequence[str]) -> tuple[str, ...]:
        """Checks a list of at most 8 authentication methods. Each method must have 1–128
        characters, and must be a name (RFC 8176) or a URI.
        """
        if len(value) > MAX_AUTH_METHODS:
            self._broken("auth_methods", f"must have at most {MAX_AUTH_METHODS} entries")
        for i, method in enumerate(value[:MAX_AUTH_METHODS]):
            if _AUTH_METHOD.fullmatch(method) is None:
                self._broken(
                    f"auth_methods[{i}]", f"must be 1 to {MAX_AUTH_METHOD_CHARACTERS} {_URI_RULE}"
                )
        return tuple(value)

    def session_ttl(self, value: timedelta | None, longest: timedelta) -> timedelta:
        """Checks the longest life that a request allows a session, which must be from one second to
        `longest`. `longest` is the service's own limit. Returns `longest` if `value` is None.
        """
        if value is None:
            return longest
        if not MIN_SESSION_TTL <= value <= longest:
            self._broken("session_ttl", f"must be from 1 to {int(longest.total_seconds())} seconds")
        return value

    def idle_timeout(
        self, value: timedelta | None, shortest: timedelta, longest: timedelta
    ) -> timedelta | None:
        """Checks an idle timeout, and lowers it to a step that a record can hold.

        The timeout must be from `shortest` to `longest`, the service's own timeout. If `value` is
        None, returns None, so that the service's own timeout applies. If the timeout breaks the
        rule, the metadata of the error has both limits in seconds. With the limits, a caller can
        choose the nearest allowed timeout.
        """
        if value is None:
            return None
        if not shortest <= value <= longest:
            least, most = math.ceil(shortest.total_seconds()), int(longest.total_seconds())
            self._broken("idle_timeout", f"must be from {least} to {most} seconds")
            self._metadata.update(min_seconds=str(least), max_seconds=str(most))
            return None
        return shortened(value)

    def request_id(self, value: str) -> UUID | None:
        """Checks a request ID, which must be a UUID (AIP-155). Returns None for an empty text,
        which means that the request has no request ID.
        """
        if not value:
            return None
        parsed = parse_uuid(value)
        if parsed is None:
            self._broken("request_id", "must be a UUID")
        return parsed

    def page_size(self, value: int) -> int:
        """Checks the size of a page, from 0 to 1,000. Returns the default of 50 for 0."""
        if value < 0:
            self._broken("page_size", "must not be negative")
        elif value > MAX_PAGE_SIZE:
            self._broken("page_size", f"must be at most {MAX_PAGE_SIZE}")
        return value or DEFAULT_PAGE_SIZE

    def user_ids(self, value: Sequence[str]) -> Sequence[str]:
        """Checks a list of at most 1,000 user IDs."""
        if len(value) > MAX_WATCHED_USERS:
            self._broken("user_ids", f"must have at most {MAX_WATCHED_USERS} entries")
            return ()
        return [self.user_id(user_id, f"user_ids[{i}]") for i, user_id in enumerate(value)]

    def event_type(self, value: EventType | None, field: str) -> EventType:
        """Checks a type of event. If `value` is None, the contract does not have the requested
        type, which is a violation.
        """
        if value is None:
            self._broken(field, "must be a type of event that there is")
            return EventType.UNKNOWN
        return value

    def start_time(self, seconds: int, *, has_cursor: bool) -> datetime:
        """Checks the moment at which a watch starts, in seconds since 1970. A request can't have
        both a start time and a cursor.
        """
        if has_cursor:
            self._broken("start_time", "must not be given together with a cursor")
        if not 0 <= seconds <= LAST_SECOND:
            self._broken("start_time", "must be from 1970 to 9999")
            seconds = 0
        return from_seconds(seconds)

    def batch(self, size: int, field: str = "requests") -> None:
        """Checks that a batch has 1–500 entries. `field` is the name of the field that holds the
        entries. The text of the error also calls the entries by the name in `field`.
        """
        if not 1 <= size <= MAX_BATCH:
            self._broken(field, f"must be 1 to {MAX_BATCH} {field}, not {size}")

    def session_id(self, value: str) -> bytes:
        """Checks a session ID, which must have 32 hexadecimal digits. Returns the ID's bytes."""
        if _SESSION_ID.fullmatch(value) is None:
            self._broken("session_id", "must be 32 hexadecimal digits")
            return b""
        return bytes.fromhex(value)


def cut_user_agent(value: str) -> str:
    """Returns the user agent in a form that can be shown: cleaned, and cut at 512 bytes between two
    characters.
    """
    agent = cleaned(value)
    encoded = agent.encode()
    if len(encoded) <= MAX_USER_AGENT_BYTES:
        return agent
    return cleaned(encoded[:MAX_USER_AGENT_BYTES].decode(errors="ignore"))
