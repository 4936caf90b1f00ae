"""Lists the reasons for which calls are refused, under the names that metrics use.

Nearly all refused calls are refused before they are carried out. A stream counts as refused, too,
if the server ends the stream for one of the reasons in this module.
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
    """Returns the name of the reason for which an error refuses a call. Returns None if the error
    is no refusal.
    """
    if isinstance(error, errors.Overloaded) and error.of_caller:
        return _CALLER_SHARE
    return _REASONS.get(type(error))
