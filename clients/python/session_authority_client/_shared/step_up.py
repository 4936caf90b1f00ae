"""Decides whether a user's sign-in is recent and strong enough for a page. If the sign-in is too
old or too weak, the user must sign in again, which is called step-up (RFC 9470). The query of the
sign-in page's URL says which sign-in is required. This module reads no clock.

If a page names several methods, a sign-in by one of these methods is enough. In RFC 9470 and OpenID
Connect, a sign-in by one of several `acr_values` is also enough.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qsl, quote

from session_authority_client._shared.arguments import duration
from session_authority_client.types import Session

__all__ = ["CLOCK_TOLERANCE", "StepUp", "step_up_in", "step_up_of"]

# The clocks of the app and of the service may differ by this much. The service still accepts a
# token for the same time after the token has expired. With a shorter tolerance, an app whose clock
# is fast would ask users to sign in again and again.
CLOCK_TOLERANCE = timedelta(seconds=30)
_REASON, _STEP_UP, _MAX_AGE, _AUTH_METHODS = "reason", "step_up", "max_age", "auth_methods"
# The rule for the name of an authentication method. The service has the same rule.
_METHOD = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,128}", re.ASCII)
_METHOD_RULE = "each must be 1 to 128 letters, digits or characters of a URI"
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_MAX_QUERY_FIELDS = 100


@dataclass(frozen=True, slots=True)
class StepUp:
    """Describes the sign-in that an app requires. If `max_age` is not None, the sign-in must not be
    older than `max_age`. If `auth_methods` (RFC 8176) is not empty, the sign-in must have used at
    least one of these methods.
    """

    max_age: timedelta | None = None
    auth_methods: tuple[str, ...] = ()

    @property
    def max_age_seconds(self) -> int | None:
        """The maximum age in whole seconds, rounded down, as in RFC 9470 and OpenID Connect."""
        return None if self.max_age is None else self.max_age // timedelta(seconds=1)

    @property
    def query(self) -> str:
        """The fields for the query of the sign-in page's URL. The fields say which sign-in is
        required of a user who is already signed in.
        """
        fields = [f"{_REASON}={_STEP_UP}"]
        if self.max_age_seconds is not None:
            fields.append(f"{_MAX_AGE}={self.max_age_seconds}")
        if self.auth_methods:
            fields.append(f"{_AUTH_METHODS}={quote(' '.join(self.auth_methods), safe='')}")
        return "&".join(fields)

    def lack_of(self, session: Session, age: timedelta) -> str:
        """Returns a sentence that says which sign-in a session lacks. Returns an empty text if the
        session's sign-in is recent and strong enough. `age` is the time since the sign-in, and may
        exceed `max_age` by `CLOCK_TOLERANCE`. A negative `age` counts as recent, because the app's
        clock may be slow.
        """
        old = self.max_age is not None and age - CLOCK_TOLERANCE > self.max_age
        weak = self.auth_methods and not set(self.auth_methods) & set(session.auth_methods)
        if not (old or weak):
            return ""
        sign_in = "A more recent sign-in" if old else "A sign-in"
        methods = f" by one of these methods: {', '.join(self.auth_methods)}" if weak else ""
        return f"{sign_in} is required{methods}"


_ANY = StepUp()


def step_up_of(max_age: timedelta | None, auth_methods: Collection[str] | None) -> StepUp:
    """Returns the step-up that an app requires. Raises ValueError for a negative age, for an empty
    list of methods, for a malformed name of a method, and for a single text instead of a list.
    Raises TypeError for an age that is no timedelta, and for a method that is no str.
    """
    if max_age is None and auth_methods is None:
        return _ANY
    if max_age is not None and duration("max_age", max_age) < timedelta(0):
        raise ValueError("max_age: must not be negative")
    return StepUp(max_age, () if auth_methods is None else _checked(auth_methods))


def _checked(given: Collection[str]) -> tuple[str, ...]:
    if isinstance(given, str | bytes):
        raise ValueError("auth_methods: must be several, not one text")
    methods = tuple(dict.fromkeys(given))
    if not methods:
        raise ValueError("auth_methods: must not be empty")
    for method in methods:
        if not isinstance(method, str):
            raise TypeError(f"auth_methods: each a str, not {type(method).__name__}")
        if not _METHOD.fullmatch(method):
            raise ValueError(f"auth_methods: {_METHOD_RULE}, not {method!r}")
    return methods


def step_up_in(target: str) -> StepUp | None:
    """Returns the step-up in the query of a request's target. Returns None if the query has no
    step-up, or more than 100 fields. An attacker can write the query, so malformed values in it are
    left out.
    """
    try:
        pairs = parse_qsl(target.partition("?")[2], max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        return None
    if (_REASON, _STEP_UP) not in pairs:
        return None
    fields = dict(pairs)
    seconds, methods = fields.get(_MAX_AGE, ""), fields.get(_AUTH_METHODS, "").split(" ")
    return StepUp(
        timedelta(seconds=int(seconds)) if _SECONDS.fullmatch(seconds) else None,
        tuple(method for method in dict.fromkeys(methods) if _METHOD.fullmatch(method)),
    )
