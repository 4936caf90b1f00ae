"""Implements `session-authority relay`, which delivers events to HTTP endpoints."""

from __future__ import annotations

import asyncio

import typer
from rich.table import Table

from session_authority.cli import dead_letters
from session_authority.cli.relay_options import (
    EndpointsOption,
    endpoints_of,
    relay_settings,
    with_deliveries,
)
from session_authority.cli.terminal import (
    WRONG_USAGE,
    Commands,
    JsonOption,
    errors_in_one_line,
    fail,
    out,
    show_json,
)
from session_authority.processes.relay import run_relay
from session_authority.relay import new_secret
from session_authority.runtime import logs
from session_authority.store import Deliveries
from session_authority.store.deliveries import DeliveryState
from session_authority.store.key_names import PARTITIONS

app = typer.Typer(
    cls=Commands,
    help=(
        "Deliver events to HTTP endpoints, as signed webhooks.\n\nRuns until it is stopped. Start"
        " as many relays as you like: they share the work. Needs SESSION_AUTHORITY_REDIS_URL and a"
        " file that names the endpoints; see docs/events.md."
    ),
    invoke_without_command=True,
)
app.add_typer(dead_letters.app, name="dead")


@app.callback()
@errors_in_one_line()
def relay(context: typer.Context, endpoints: EndpointsOption = None) -> None:
    """Deliver events until the command is stopped."""
    if context.invoked_subcommand is not None:
        if endpoints is not None:
            fail(f"give --endpoints after {context.invoked_subcommand}", WRONG_USAGE)
        return
    settings = relay_settings()
    found = endpoints_of(settings, endpoints)
    logs.configure(settings.log_level)
    asyncio.run(run_relay(settings, found))


@app.command()
@errors_in_one_line()
def status(endpoints: EndpointsOption = None, as_json: JsonOption = False) -> None:
    """Show the state of each endpoint."""
    settings = relay_settings()
    found = endpoints_of(settings, endpoints)

    async def ask(deliveries: Deliveries) -> list[tuple[str, DeliveryState]]:
        return [(endpoint.name, await deliveries.state(endpoint.name)) for endpoint in found]

    states = with_deliveries(settings, ask)
    if as_json:
        for name, state in states:
            show_json({"endpoint": name, **_row(state)})
        return
    titles = ("endpoint", "waiting", "under way", "dead", "relays", "partitions")
    table = Table(*titles, box=None, pad_edge=False)
    for name, state in states:
        numbers = (state.waiting, state.taken, state.dead, state.relays)
        table.add_row(name, *map(str, numbers), f"{state.partitions}/{PARTITIONS}")
    out.print(table)


def _row(state: DeliveryState) -> dict[str, int]:
    """Returns what `--json` prints about the state of an endpoint."""
    return {
        "waiting": state.waiting,
        "under_way": state.taken,
        "dead": state.dead,
        "relays": state.relays,
        "partitions": state.partitions,
    }


@app.command()
def secret() -> None:
    """Make a secret for signatures. Each endpoint needs its own secret."""
    out.print(new_secret(), markup=False)
