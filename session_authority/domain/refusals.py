"""The reasons for which calls are refused, under the names that metrics use.

Nearly all of these calls are refused before they are carried out. The exceptions are streams that
the server ends while they are under way.
"""

from __future__ import annotations

from session_authority.domain import errors

UNKNOWN_METHOD = "unknown_method"
_CALLER_SHARE = "caller_share"
_REASONS: dict[type[Exception], str] = {
    errors.CallerUnknown: "caller_unknown",
    errors.CallerNotAllowed: "caller_not_allowed",
    errors.DeadlineTooShort: "deadline_too_short",
    errors.MalformedMessage: "malformed_message",
    errors.MessageTooLarge: "message_too_large",
    errors.NotReady: "not_ready",
    errors.Overloaded: "too_many_calls",
    errors.Stopping: "stopping",
}
REASONS = (*_REASONS.values(), _CALLER_SHARE, UNKNOWN_METHOD)


def refusal_of(error: Exception) -> str | None:
    """Returns the name of the reason for a refusal. None if the error is not a refusal."""
    if isinstance(error, errors.Overloaded) and error.of_caller:
        return _CALLER_SHARE
    return _REASONS.get(type(error))
