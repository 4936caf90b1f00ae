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
    """Decides the pauses between the watches of a near cache. This object logs the failure of a
    watch, unless the failure before had the same reason and no watch has worked since then. This
    object also logs when a watch works again.
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

        The base of the pauses doubles with each failure, from 0.1 to at most 5 seconds. If the
        service refuses the caller, the base is 5 seconds at once. A pause is the base, multiplied
        by a random number from 0.5 to 1.5. So many caches that lost a server at the same time don't
        start their next watches at the same time.
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
