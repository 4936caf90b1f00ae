"""Implements `session-authority relay dead`, which lists, retries and drops dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from session_authority.cli.audited import audited
from session_authority.cli.relay_options import (
    EndpointsOption,
    endpoints_of,
    relay_settings,
    with_deliveries,
)
from session_authority.cli.terminal import (
    FAILED,
    WRONG_USAGE,
    Commands,
    JsonOption,
    err,
    errors_in_one_line,
    fail,
    out,
    show,
    show_json,
    when,
)
from session_authority.domain.events import RecordedEvent
from session_authority.relay import Delivered, Sender, cloud_event
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings
from session_authority.runtime.text import printable
from session_authority.store import Deliveries
from session_authority.store.deliveries import DeadLetter

app = typer.Typer(
    cls=Commands, help="Look after events that could not be delivered.", no_args_is_help=True
)

EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint", metavar="NAME", help="Only dead letters of this endpoint.", show_default=False
    ),
]
EventIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EVENT_ID", help="The events; see `relay dead list`.", show_default=False
    ),
]
AllOption = Annotated[
    bool,
    typer.Option("--all", help="All dead letters; with --endpoint, only those of that endpoint."),
]


@app.command("list")
@errors_in_one_line()
def dead_list(
    endpoint: EndpointOption = None,
    endpoints: EndpointsOption = None,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many to list at the most.")
    ] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the events that could not be delivered, and the reasons."""
    settings = relay_settings()
    names = _names(settings, endpoint, endpoints)
    titles = ("endpoint", "event ID", "type", "user", "attempts", "reason", "given up")
    table = Table(*titles, box=None, pad_edge=False)
    found = with_deliveries(settings, lambda deliveries: _first(deliveries, names, limit))
    if as_json:
        for name, letter in found:
            show_json(_row(name, letter))
        return
    for name, letter in found:
        event = letter.event
        about = ("?", "?") if event is None else (event.type.name, event.user_id)
        end = (str(letter.attempts), letter.reason, when(letter.given_up_at))
        cells = (name, letter.event_id, *about, *end)
        table.add_row(*(escape(printable(text)) for text in cells))
    if table.row_count:
        show(table, whole_lines=True)
    else:
        err.print("Nothing is dead.")
    if table.row_count == limit:
        err.print("There may be more: give --limit.")


def _row(endpoint: str, letter: DeadLetter) -> dict[str, object]:
    """Returns what `--json` prints about a dead letter."""
    return {
        "endpoint": endpoint,
        "event_id": letter.event_id,
        "type": letter.event and letter.event.type.name,
        "user_id": letter.event and letter.event.user_id,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "given_up_at": letter.given_up_at,
    }


@app.command("retry")
@errors_in_one_line()
@audited("relay dead retry", "event_ids", "everything", "endpoint")
def dead_retry(
    event_ids: EventIds = None,
    everything: AllOption = False,
    endpoint: EndpointOption = None,
    endpoints: EndpointsOption = None,
) -> None:
    """Send dead letters to their endpoints again, now. An event that is delivered is no longer a
    dead letter. The exit code is 1 if an event is not delivered.
    """
    settings = relay_settings()
    by_name = {found.name: found for found in endpoints_of(settings, endpoints)}
    if endpoint is not None and endpoint not in by_name:
        fail(f"--endpoint: the file names no {endpoint!r}", WRONG_USAGE)
    names = list(by_name) if endpoint is None else [endpoint]

    async def retry(deliveries: Deliveries) -> bool:
        senders = {name: Sender(by_name[name]) for name in names}
        try:
            arrived = [
                await _retry(deliveries, name, letter, senders[name], settings.issuer)
                async for name, letter in _chosen(deliveries, names, event_ids, everything)
            ]
        finally:
            for sender in senders.values():
                await sender.close()
        return all(arrived)

    if not with_deliveries(settings, retry):
        raise typer.Exit(FAILED)


@app.command("drop")
@errors_in_one_line()
@audited("relay dead drop", "event_ids", "everything", "endpoint")
def dead_drop(
    event_ids: EventIds = None,
    everything: AllOption = False,
    endpoint: EndpointOption = None,
    endpoints: EndpointsOption = None,
) -> None:
    """Delete events that could not be delivered."""
    settings = relay_settings()
    names = _names(settings, endpoint, endpoints)

    async def drop(deliveries: Deliveries) -> None:
        async for name, letter in _chosen(deliveries, names, event_ids, everything):
            if await deliveries.drop(name, letter):
                out.print(f"{name} {letter.event_id}: dropped", markup=False)

    with_deliveries(settings, drop)


async def _retry(
    deliveries: Deliveries, name: str, letter: DeadLetter, sender: Sender, source: str
) -> bool:
    if letter.event is None:
        out.print(f"{name} {letter.event_id}: can't be read; drop it", markup=False)
        return False
    body = cloud_event(RecordedEvent(letter.event_id, letter.event), source)
    outcome = await sender.send(letter.event_id, body, now())
    if not isinstance(outcome, Delivered):
        out.print(f"{name} {letter.event_id}: {outcome.reason}", markup=False)
        return False
    await deliveries.drop(name, letter)
    out.print(f"{name} {letter.event_id}: delivered", markup=False)
    return True


async def _letters(
    deliveries: Deliveries, names: Sequence[str], event_id: str | None = None
) -> AsyncIterator[tuple[str, DeadLetter]]:
    for name in names:
        async for letter in deliveries.dead_letters(name, event_id):
            yield name, letter


async def _first(
    deliveries: Deliveries, names: Sequence[str], limit: int
) -> list[tuple[str, DeadLetter]]:
    found: list[tuple[str, DeadLetter]] = []
    async for named in _letters(deliveries, names):
        found.append(named)
        if len(found) == limit:
            break
    return sorted(found, key=lambda named: named[1].given_up_at)


async def _chosen(
    deliveries: Deliveries, names: Sequence[str], event_ids: Sequence[str] | None, everything: bool
) -> AsyncIterator[tuple[str, DeadLetter]]:
    if everything == bool(event_ids):
        fail("name the events, or give --all", WRONG_USAGE)
    if everything:
        async for named in _letters(deliveries, names):
            yield named
        return
    found = {
        event_id: [named async for named in _letters(deliveries, names, event_id)]
        for event_id in event_ids or ()
    }
    unknown = sorted(event_id for event_id, letters in found.items() if not letters)
    if unknown:
        fail("\n".join(f"{event_id}: is not a dead letter" for event_id in unknown))
    for letters in found.values():
        for named in letters:
            yield named


def _names(settings: Settings, endpoint: str | None, endpoints: Path | None) -> list[str]:
    """Returns the names of the endpoints whose dead letters the command uses. If the user gave
    `--endpoint`, only this name is returned, even if the file does not have this endpoint. If the
    user did not give `--endpoint`, the names of all endpoints in the file are returned.
    """
    if endpoint is not None:
        return [endpoint]
    return [found.name for found in endpoints_of(settings, endpoints)]
