"""`session-authority relay`: delivers events to HTTP endpoints, and looks after what could not be
delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from session_authority.cli.terminal import (
    FAILED,
    WRONG_USAGE,
    check_redis_url,
    err,
    errors_in_one_line,
    fail,
    out,
    when,
)
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import RecordedEvent
from session_authority.processes.relay import deliveries_of, run_relay
from session_authority.relay.endpoints import Endpoint, EndpointsError, load_endpoints, new_secret
from session_authority.relay.webhooks import Delivered, Sender, cloud_event
from session_authority.runtime import logs
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings, SettingsError, load_settings
from session_authority.runtime.text import printable
from session_authority.store import Deliveries
from session_authority.store.deliveries import DeadLetter

app = typer.Typer(
    help=(
        "Deliver events to HTTP endpoints, as signed webhooks.\n\nRuns until it is stopped; start"
        " as many as you like, they share the work. Needs SESSION_AUTHORITY_REDIS_URL and a file"
        " that names the endpoints; see docs/events.md."
    ),
    invoke_without_command=True,
)
dead_app = typer.Typer(help="Look after events that could not be delivered.", no_args_is_help=True)
app.add_typer(dead_app, name="dead")

EndpointsOption = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        metavar="FILE",
        help="The TOML file of endpoints. Default: SESSION_AUTHORITY_RELAY_ENDPOINTS.",
        show_default=False,
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="NAME", help="Only of this endpoint.", show_default=False),
]
EventIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EVENT_ID...", help="The events; see `relay dead list`.", show_default=False
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="All that are listed.")]

T = TypeVar("T")
_WIDE = 1000


@app.callback()
def relay(context: typer.Context, endpoints: EndpointsOption = None) -> None:
    """Deliver events until stopped."""
    if context.invoked_subcommand is not None:
        if endpoints is not None:
            fail(f"give --endpoints after {context.invoked_subcommand}", WRONG_USAGE)
        return
    with errors_in_one_line():
        settings = _settings()
        found = _endpoints(settings, endpoints)
        logs.configure(settings.log_level)
        asyncio.run(run_relay(settings, found))


@app.command()
def status(endpoints: EndpointsOption = None) -> None:
    """Show how each endpoint is doing."""
    with errors_in_one_line():
        settings = _settings()
        found = _endpoints(settings, endpoints)

        async def ask(deliveries: Deliveries) -> list[tuple[str, Any]]:
            return [(endpoint.name, await deliveries.state(endpoint.name)) for endpoint in found]

        table = Table(
            "endpoint",
            "waiting",
            "under way",
            "dead",
            "relays",
            "partitions",
            box=None,
            pad_edge=False,
        )
        for name, state in _with_deliveries(settings, ask):
            numbers = (
                state.waiting,
                state.taken,
                state.dead,
                state.relays,
                f"{state.partitions}/64",
            )
            table.add_row(name, *map(str, numbers))
        out.print(table)


@app.command()
def secret() -> None:
    """Make a secret to sign with: one for each endpoint."""
    out.print(new_secret(), markup=False)


@dead_app.command("list")
def dead_list(
    endpoint: EndpointOption = None,
    endpoints: EndpointsOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to list at the most.")] = 100,
) -> None:
    """List what could not be delivered, and why."""
    with errors_in_one_line():
        settings = _settings()
        names = _names(settings, endpoint, endpoints)
        titles = ("endpoint", "event ID", "type", "user", "attempts", "reason", "given up")
        table = Table(*titles, box=None, pad_edge=False)
        for name, letter in _with_deliveries(
            settings, lambda deliveries: _first(deliveries, names, limit)
        ):
            kind, user = (
                ("?", "?")
                if letter.event is None
                else (letter.event.type.name, letter.event.user_id)
            )
            row = (
                name,
                letter.event_id,
                kind,
                user,
                str(letter.attempts),
                letter.reason,
                when(letter.given_up),
            )
            table.add_row(*(escape(printable(text)) for text in row))
        if table.row_count:
            out.print(
                table, width=_WIDE, crop=False, no_wrap=True
            )  # an event ID must be there whole, to be copied
        else:
            err.print("Nothing is dead.")
        if table.row_count == limit:
            err.print("There may be more: give --limit.")


@dead_app.command("retry")
def dead_retry(
    event_ids: EventIds = None,
    everything: AllOption = False,
    endpoint: EndpointOption = None,
    endpoints: EndpointsOption = None,
) -> None:
    """Send events once more, now. What arrives is dead no longer; exit code 1 if anything does not
    arrive.
    """
    with errors_in_one_line():
        settings = _settings()
        by_name = {found.name: found for found in _endpoints(settings, endpoints)}
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

        if not _with_deliveries(settings, retry):
            raise typer.Exit(FAILED)


@dead_app.command("drop")
def dead_drop(
    event_ids: EventIds = None,
    everything: AllOption = False,
    endpoint: EndpointOption = None,
    endpoints: EndpointsOption = None,
) -> None:
    """Forget events that could not be delivered."""
    with errors_in_one_line():
        settings = _settings()
        names = _names(settings, endpoint, endpoints)

        async def drop(deliveries: Deliveries) -> None:
            async for name, letter in _chosen(deliveries, names, event_ids, everything):
                if await deliveries.drop(name, letter):
                    out.print(f"{name} {letter.event_id}: dropped", markup=False)

        _with_deliveries(settings, drop)


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
    return sorted(found, key=lambda named: named[1].given_up)


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
        fail("\n".join(f"{event_id}: is not among the dead" for event_id in unknown))
    for letters in found.values():
        for named in letters:
            yield named


def _with_deliveries(settings: Settings, work: Callable[[Deliveries], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with deliveries_of(settings) as (deliveries, _):
            return await work(deliveries)

    logs.configure("error")
    try:
        return asyncio.run(run())
    except StoreUnavailable:
        fail("Redis does not answer")


def _settings() -> Settings:
    settings = load_settings()
    if settings.redis_url is None:
        raise SettingsError("SESSION_AUTHORITY_REDIS_URL: must be set")
    check_redis_url(settings)
    return settings


def _endpoints(settings: Settings, given: Path | None) -> tuple[Endpoint, ...]:
    path = given or settings.relay_endpoints
    if path is None:
        raise SettingsError(
            "SESSION_AUTHORITY_RELAY_ENDPOINTS: must name the file of endpoints, or give"
            " --endpoints"
        )
    try:
        return load_endpoints(path)
    except EndpointsError as error:
        raise SettingsError(str(error)) from None


def _names(settings: Settings, endpoint: str | None, endpoints: Path | None) -> list[str]:
    """The named endpoint, which need not be in the file any more, or all that are."""
    return (
        [endpoint]
        if endpoint is not None
        else [found.name for found in _endpoints(settings, endpoints)]
    )
