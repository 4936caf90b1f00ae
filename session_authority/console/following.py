"""Watches the events of a server. After a restart of the server, the watch continues at the last
cursor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import grpc
from cachetools import LRUCache

from session_authority.console.connection import Target, channel_to, health
from session_authority.runtime.backoff import Backoff
from session_authority.runtime.text import printable
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

_FIRST_ANSWER_SECONDS = 5.0
_SILENCE_SECONDS = 30.0  # three intervals of heartbeats
_BACKOFF = Backoff(first=timedelta(milliseconds=200), longest=timedelta(seconds=5))
# A watch may send an event twice. The IDs of this many events are remembered, so that people do not
# mistake a repeated event for a second alarm.
_REMEMBERED_EVENTS = 10_000
# If a call has failed with one of these codes, a further call would fail, too.
_FINAL_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class TailFailed(Exception):
    """The events can't be watched or shown. The message says why."""


def follow(
    target: Target, ask: pb.WatchEventsRequest, say: Callable[[str], None]
) -> Iterator[Sequence[pb.Event]]:
    """Yields a list of the events of each message of a watch. An event that was already among the
    last 10,000 events is left out. The lists for the first message and for heartbeats are empty.

    When the connection breaks, a new call continues at the last cursor. `say` gets a text when two
    calls in a row have failed, and when the server answers again after two or more failures. `say`
    also gets a text when events may have been missed. A single failure is normal, and gets no text.

    Raises TailFailed if the server does not answer or is not ready at the start, or if the server
    refuses the watch.
    """
    status = health(target, _FIRST_ANSWER_SECONDS)
    if status != "SERVING":
        raise TailFailed(f"{target}: {status}")
    seen: LRUCache[str, bool] = LRUCache(_REMEMBERED_EVENTS)
    begun, failures = False, 0
    while True:
        reason = "the stream ended"
        try:
            for message in _messages(
                target, ask, _SILENCE_SECONDS if begun else _FIRST_ANSWER_SECONDS
            ):
                if failures > 1:
                    say(f"{target}: is back")
                begun, failures = True, 0
                yield [event for event in message.events if event.event_id not in seen]
                seen.update((event.event_id, True) for event in message.events)
                ask.cursor = message.cursor
                ask.ClearField("start_time")
        except grpc.RpcError as error:
            code, reason = error.code(), error.code().name
            if not begun or code in _FINAL_CODES:
                raise TailFailed(
                    f"{target}: {reason}: {printable(error.details() or '')}"
                ) from None
            if code is grpc.StatusCode.OUT_OF_RANGE:  # with the reason CURSOR_EXPIRED
                say(
                    f"{target}: events may have been missed, it can't go on from where this watch"
                    " was; going on from now"
                )
                ask.cursor = ""
        failures += 1
        if failures == 2:
            say(
                f"{target}: is away ({reason}); going on where this watch was as soon as it is back"
            )
        time.sleep(_BACKOFF.seconds(failures))


def _messages(
    target: Target, ask: pb.WatchEventsRequest, timeout_seconds: float
) -> Iterator[pb.WatchEventsResponse]:
    """Yields the messages of one call, until the call ends. The call is cancelled if the server
    sends no message for too long. Each call has its own channel, because a channel that has failed
    several times waits longer and longer before it connects again.
    """
    with channel_to(target) as channel:
        call = pb_grpc.SessionAuthorityServiceStub(channel).WatchEvents(ask)
        while True:
            watchdog = threading.Timer(timeout_seconds, call.cancel)
            watchdog.daemon = True
            watchdog.start()
            try:
                message = next(call, None)
            finally:
                watchdog.cancel()
            if message is None:
                return
            yield message
            timeout_seconds = _SILENCE_SECONDS
