"""Decides the pauses before a near cache starts another watch, and writes log lines about failed
watches.
"""

from __future__ import annotations

import logging
import random

from session_authority_client.errors import CallerNotAllowed, CallerUnknown, SessionAuthorityError

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 5.0

_log = logging.getLogger("session_authority_client")


class Backoff:
    """The pauses between watches. This object logs a failure only if its reason differs from the
    reason that was logged last. It also logs when watching works again.
    """

    def __init__(self) -> None:
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._logged = ""

    def reset(self) -> None:
        """Notes that the watch works, so the next pause is short again."""
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        if self._logged:
            self._logged = ""
            _log.info("the near cache is on again")

    def next_seconds(self, error: BaseException | None) -> float:
        """Notes that a watch has ended. Returns how many seconds to wait before the next watch.

        The pauses become longer after each failure. If the service refuses the caller, the
        longest pause is used at once. The pauses are random, so that many caches that lost a server
        at the same time don't come back at the same time.
        """
        foreseen = error is None or isinstance(error, SessionAuthorityError | TimeoutError)
        why = _reason_of(error)
        if why != self._logged:
            self._logged = why
            _log.warning(
                "the near cache is off until it can watch again: %s",
                why,
                exc_info=None if foreseen else error,
            )
        if isinstance(error, CallerNotAllowed | CallerUnknown):
            self._pause_seconds = _MAX_PAUSE_SECONDS
        pause = self._pause_seconds * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self._pause_seconds = min(self._pause_seconds * 2, _MAX_PAUSE_SECONDS)
        return pause


def _reason_of(error: BaseException | None) -> str:
    if error is None:
        return "the watch was ended"
    if isinstance(error, TimeoutError):
        return "the watch proved nothing for too long, or clocks ran apart"
    if isinstance(error, SessionAuthorityError):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
