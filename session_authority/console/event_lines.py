"""Writes each event as one line: as a row of a table for people, and as JSON for programs.

Anybody can choose the names of devices and the user agents. So a row of the table has only the
printable characters of such texts, and JSON has escapes for all other characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.text import Text

from session_authority.runtime.text import printable
from session_authority.v1 import session_authority_pb2 as pb

_COLUMNS = ("time", "type", "user", "device", "client", "details")
_FIXED = (15, 21)
_STYLES = {
    pb.EVENT_TYPE_DEVICE_SIGNED_IN: "green",
    pb.EVENT_TYPE_SESSION_REPLAYED: "bold red",
    pb.EVENT_TYPE_ENDED_TOKEN_PRESENTED: "yellow",
    pb.EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED: "yellow",
    pb.EVENT_TYPE_SIGNING_KEY_REVOKED: "bold magenta",
}


def json_line(event: pb.Event) -> str:
    """Returns an event in protobuf's JSON mapping, with the names of the fields in the contract.
    The text is ASCII.
    """
    return json.dumps(MessageToDict(event, preserving_proto_field_name=True), separators=(",", ":"))


class EventTable:
    """A table whose columns keep their widths, so that each row can be shown when its event
    arrives. The last column has no fixed width.
    """

    def __init__(self, out: Console) -> None:
        self._out = out

    def header(self) -> str:
        """Returns the line with the names of the columns."""
        return self._line(_COLUMNS, "bold")

    def row(self, event: pb.Event) -> str:
        """Returns the line of an event. Texts that are too long for their column are cut, except in
        the last column.
        """
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
        """Returns the widths of all columns except the last, in characters. If the terminal is at
        least 108 characters wide, the last column has at least 30 characters.
        """
        if not self._out.is_terminal:
            return (*_FIXED, 36, 28, 64)
        share = max(8, min(24, (self._out.width - sum(_FIXED) - 40) // 4))
        return (*_FIXED, share, share, 2 * share)


def _client(client: pb.EventClient) -> str:
    """Returns the known facts about a client, such as `Chrome 140 on Windows, 203.0.113.7`."""
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
    """Returns the name of an enum's value in words, or the number if this version does not know the
    value.
    """
    try:
        return str(kind.Name(number)).removeprefix(prefix).replace("_", " ").lower()
    except ValueError:
        return str(number)
