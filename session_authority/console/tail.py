"""Shows what happens to sessions, live: a table for people, JSON for machines; one event a line
either way.

It follows a server across restarts, from its last cursor. Names and user agents are what strangers
chose, so nothing of them reaches a terminal that is not printable.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, NoReturn

import grpc
from cachetools import LRUCache
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from session_authority.console.connection import Target, channel_to, health
from session_authority.runtime.backoff import Backoff
from session_authority.runtime.durations import parse_duration
from session_authority.runtime.text import printable
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

EVENT_TYPES = tuple(
    name.removeprefix("EVENT_TYPE_") for name, number in pb.EventType.items() if number
)

_FIRST_ANSWER_SECONDS = 5.0
_SILENCE_SECONDS = 30.0  # three heartbeats
_BACKOFF = Backoff(first=timedelta(milliseconds=200), longest=timedelta(seconds=5))
# The contract may tell an event twice; people should not take that for a second alarm.
_REMEMBERED_EVENTS = 10_000
# Calling again can't help.
_FINAL_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

_COLUMNS = ("time", "type", "user", "device", "client", "details")
_FIXED = (15, 21)
_STYLES = {
    pb.EVENT_TYPE_DEVICE_SIGNED_IN: "green",
    pb.EVENT_TYPE_SESSION_REPLAYED: "bold red",
    pb.EVENT_TYPE_ENDED_TOKEN_PRESENTED: "yellow",
    pb.EVENT_TYPE_SIGNING_KEY_REVOKED: "bold magenta",
}


class TailFailed(Exception):
    """The events can't be watched or shown; the message says why."""


def question(
    types: Iterable[str], user_ids: Iterable[str], since: str | None, now: datetime
) -> pb.WatchEventsRequest:
    """What to ask the server for. Raises ValueError, naming the option and its rule."""
    names = [given.upper().removeprefix("EVENT_TYPE_") for given in types]
    for name in names:
        if name not in EVENT_TYPES:
            raise ValueError(
                f"--type: there is no {name.lower()!r}; there are {', '.join(EVENT_TYPES).lower()}"
            )
    ask = pb.WatchEventsRequest(user_ids=user_ids, types=[f"EVENT_TYPE_{name}" for name in names])
    if since is not None:
        ask.start_time.CopyFrom(_moment(since, now))
    return ask


def _moment(since: str, now: datetime) -> Timestamp:
    try:
        ago = parse_duration(since)
    except ValueError:
        moment = Timestamp()
        try:
            moment.FromJsonString(since)
        except ValueError:
            raise ValueError(
                "--since: must be a duration like 15m, 2h or 7d, or a time like"
                " 2026-11-24T09:30:00Z"
            ) from None
        return moment
    assert isinstance(ago, timedelta)
    return Timestamp(seconds=max(0, int(now.timestamp() - ago.total_seconds())))


def tail(
    target: Target, ask: pb.WatchEventsRequest, out: Console, *, as_json: bool, count: int | None
) -> None:
    """Shows events until there were `count`. Raises TailFailed.

    Ctrl-C, SIGTERM, or that whoever reads the output has left, end the process: that is how a watch
    ends.
    """
    _end_when_told()
    try:
        batches = follow(target.reachable(), ask, _say)
        first = next(batches)  # nothing is shown before the server has answered
        events = islice(chain(first, chain.from_iterable(batches)), count)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(
                errors="backslashreplace"
            )  # a locale may not have all that names have
        table = _Table(out)
        if not as_json:
            _write(table.header())
        for event in events:
            _write(_json(event) if as_json else table.row(event))
    except BrokenPipeError:
        _end()
    except OSError as error:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python would try once more at its end
        raise TailFailed(f"can't write: {error.strerror}") from None


# --- following ------------------------------------------------------------------------------------


def follow(
    target: Target, ask: pb.WatchEventsRequest, say: Callable[[str], None]
) -> Iterator[Sequence[pb.Event]]:
    """The events of one message after the other, each event once; none with the first, and when it
    shows a sign of life.

    When the server goes away it is called again, from the last cursor. `say` is told, once, unless
    it was back at once: connections move on now and then. Raises TailFailed if there is no server
    at the start, or it does not want to tell.
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
            if code is grpc.StatusCode.OUT_OF_RANGE:  # CURSOR_EXPIRED
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
    """One call. A channel of its own: one that has failed waits longer and longer before it
    connects again.
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


# --- showing --------------------------------------------------------------------------------------


def _json(event: pb.Event) -> str:
    """The event in protobuf's JSON mapping, with the names of the contract. It is all ASCII."""
    return json.dumps(MessageToDict(event, preserving_proto_field_name=True), separators=(",", ":"))


class _Table:
    """Columns that keep their widths, so that each row can be shown as it comes. The last one takes
    what it needs.
    """

    def __init__(self, out: Console) -> None:
        self._out = out

    def header(self) -> str:
        return self._line(_COLUMNS, "bold")

    def row(self, event: pb.Event) -> str:
        cells = (
            event.create_time.ToDatetime(UTC).astimezone().strftime("%b %d %H:%M:%S"),
            _words(pb.EventType, event.type, "EVENT_TYPE_").replace(" ", "_"),
            event.user_id,
            event.device.display_name or event.device.device_id,
            _client(event.client),
            "; ".join(_details(event)),
        )
        return self._line(cells, _STYLES.get(event.type, ""))

    def _line(self, cells: Sequence[str], style: str) -> str:
        line = Text(style=style)
        for cell, width in zip(cells, self._widths(), strict=False):
            part = Text(printable(cell) or "-")
            part.truncate(width, overflow="ellipsis", pad=True)
            line.append(part).append("  ")
        line.append(printable(cells[-1]))
        line.rstrip()
        with self._out.capture() as captured:
            self._out.print(line, soft_wrap=True)
        return captured.get().removesuffix("\n")

    def _widths(self) -> tuple[int, ...]:
        """Those of all columns but the last, to which a terminal leaves at least a quarter of a
        usual line.
        """
        if not self._out.is_terminal:
            return (*_FIXED, 36, 28, 64)
        share = max(8, min(24, (self._out.width - sum(_FIXED) - 40) // 4))
        return (*_FIXED, share, share, 2 * share)


def _client(client: pb.EventClient) -> str:
    """`Chrome 140 on Windows, 203.0.113.7`, as far as it is known."""
    program = (
        " on ".join(filter(None, (client.browser, client.operating_system)))
        or client.info.user_agent[:24]
    )
    return ", ".join(filter(None, (program, client.info.ip_address)))


def _details(event: pb.Event) -> Iterator[str]:
    if event.new_device:
        yield "first device" if event.first_device else "new device"
    if event.replay_cause:
        yield _words(pb.ReplayCause, event.replay_cause, "REPLAY_CAUSE_")
    if event.replay_action:
        yield _words(pb.ReplayAction, event.replay_action, "REPLAY_ACTION_")
    if event.reason:
        yield event.reason
    if event.except_device_id:
        yield f"all but {event.except_device_id}"
    if event.key_id:
        yield f"key {event.key_id}"
    if event.actor:
        yield f"by {event.actor}"


def _words(kind: Any, number: int, prefix: str) -> str:
    """An enum's value in words; its number, if a newer server knows more of them."""
    try:
        return str(kind.Name(number)).removeprefix(prefix).replace("_", " ").lower()
    except ValueError:
        return str(number)


# --- ending ---------------------------------------------------------------------------------------


def _end(*_: object) -> NoReturn:
    """At once: every line is out, nothing else needs an end in order, and nothing can be
    interrupted half-way.
    """
    os._exit(0)


def _end_when_told() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    output = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        return
    # `| head` leaves without a word; else the next event, whenever it comes, would be the first to
    # find out.
    reader = select.poll()
    reader.register(output, 0)  # nothing but that it is gone
    threading.Thread(target=lambda: _end(reader.poll()), daemon=True).start()


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"session-authority: {text}\n")
    sys.stderr.flush()
