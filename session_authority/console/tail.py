"""Shows the events of sessions live, one event in a line: as a table for people, and as JSON for
programs.

After a restart of the server, the watch continues at the last cursor. Anybody can choose the names
of devices and the user agents, so the output has only the printable characters of such texts.
"""

from __future__ import annotations

import io
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import NoReturn

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from session_authority.console.connection import Target
from session_authority.console.event_lines import EventTable, json_line
from session_authority.console.following import TailFailed, follow
from session_authority.runtime.durations import parse_duration
from session_authority.v1 import session_authority_pb2 as pb

EVENT_TYPES = tuple(
    name.removeprefix("EVENT_TYPE_") for name, number in pb.EventType.items() if number
)


def question(
    types: Iterable[str], user_ids: Iterable[str], since: str | None, now: datetime
) -> pb.WatchEventsRequest:
    """Makes the request for a watch from the options of the command. Raises ValueError if an option
    is wrong. The text of the error names the option and the rule that it breaks.
    """
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
    """Shows `count` events, or events without an end if `count` is None. Raises TailFailed if the
    events can't be watched or written.

    The process exits at once on Ctrl-C, on SIGTERM, and when the program that reads the output
    exits.
    """
    _end_when_told()
    try:
        batches = follow(target.reachable(), ask, _say)
        first = next(batches)  # waits for the server's first answer before anything is shown
        events = islice(chain(first, chain.from_iterable(batches)), count)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # If the character set of the output lacks a character of a name, Python writes an
            # escape and raises no error.
            sys.stdout.reconfigure(errors="backslashreplace")
        table = EventTable(out)
        if not as_json:
            _write(table.header())
        for event in events:
            _write(json_line(event) if as_json else table.row(event))
    except BrokenPipeError:
        _end()
    except OSError as error:
        # Without this line, Python would try to write the rest of the output again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise TailFailed(f"can't write: {error.strerror}") from None


def _end(*_: object) -> NoReturn:
    """Exits the process at once, without any cleanup. The exit is safe, because every line of the
    output is already written, and no other work is left half done.
    """
    os._exit(0)


def _end_when_told() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    output = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        return
    # A reader such as `| head` exits without notice. Without this thread, the process would notice
    # the exit of the reader only when it writes the next event, which may come late.
    reader = select.poll()
    reader.register(output, 0)  # reports only that the reader has exited
    threading.Thread(target=lambda: _end(reader.poll()), daemon=True).start()


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"session-authority: {text}\n")
    sys.stderr.flush()
