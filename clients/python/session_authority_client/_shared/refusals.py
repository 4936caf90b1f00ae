"""Decides which response is sent after a visit has refused a request: the app's own response, or
the response of the refusal. This module depends on no web framework.

A refusal is an exception. If a framework does not know an exception, the framework makes a response
for this exception, usually with the status 500. So a visit notes each refusal that it raises. If
the framework made the response, and not the app, the middleware sends the response of the refusal
instead.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["find", "is_chosen", "is_chosen_close", "is_only"]

_E = TypeVar("_E", bound=BaseException)
_PACKAGE = "session_authority_client."
_ERRORS = 400
_SERVER_ERRORS = 500
# The statuses that an app may choose for a user who is not signed in.
_DENIALS = frozenset({401, 403, 404})
_INTERNAL_ERROR = 1011  # internal error (RFC 6455, section 7.4.1)
_PRIVATE_SERVER_ERRORS = 4500  # some frameworks use 4000 plus an HTTP status


def is_chosen(status: int, refused_status: int, refused: BaseException, *, fault: bool) -> bool:
    """Returns True if the app itself chose this status after a refusal, so that the app's own
    response must be sent.

    For an unknown exception, a framework chooses the status 500, or another error status that does
    not concern the session. If the app's own code caught the refusal at once, every status below
    500 counts as chosen by the app. `fault` is True if the response reports an exception other than
    the refusal. If `fault` is True, the app's response must be sent.
    """
    chosen = status < _ERRORS or status in _DENIALS or status == refused_status
    return fault or chosen or (status < _SERVER_ERRORS and _was_caught_at_once(refused))


def _was_caught_at_once(refused: BaseException) -> bool:
    """Returns True if the refusal was caught in the same function that called this package."""
    caught = refused.__traceback__
    inner = caught.tb_next if caught is not None else None
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        inner = inner.tb_next
    return caught is not None and inner is None


def is_chosen_close(code: int) -> bool:
    """Returns True if the app itself chose to close a WebSocket with this code after a refusal."""
    return code != _INTERNAL_ERROR and code < _PRIVATE_SERVER_ERRORS


def find(error: BaseException | None, kind: type[_E]) -> _E | None:
    """Finds an exception of the class `kind` in `error`. The result may be `error` itself, a cause
    or a context of `error`, or a member of an exception group. Returns None if there is no
    exception of this class.
    """
    pending, seen = [error], set()
    while pending:
        found = pending.pop()
        if isinstance(found, kind):
            return found
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            pending += [found.__context__, found.__cause__]
            if isinstance(found, BaseExceptionGroup):
                pending += found.exceptions
    return None


def is_only(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Returns True if an exception is of the class `kind`, or only wraps exceptions of this class.
    If the result is True, a server need not log the exception.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_only(inner, kind) for inner in error.exceptions)
    return isinstance(error, kind) or (error is not None and is_only(error.__cause__, kind))
