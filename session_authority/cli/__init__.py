"""Owns the command line: starts the service, asks after its health, keeps its keys, shows and
delivers its events. It refuses to do any of that itself.

Exit codes: 0 done; 1 what was asked for is not so or can't be done; 2 wrong usage or settings.
"""

from __future__ import annotations

import os

# Read when gRPC is imported. Without it every stranger whose handshake fails leaves a line that is
# no JSON in the log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from typing import Annotated

import typer

from session_authority import __version__
from session_authority.cli import (
    callers,
    demo,
    dev,
    devices,
    events,
    health,
    inspection,
    keys,
    redis,
    relay,
    restored,
    serve,
    sessions,
)
from session_authority.cli.terminal import Commands, out

__all__ = ["app", "main"]

app = typer.Typer(
    name="session-authority",
    cls=Commands,
    help=(
        "The service that other services ask whether a user's session on a device is still"
        " good.\n\nStart with [bold]dev[/bold], then let [bold]demo[/bold] play a session's life."
        " Settings are SESSION_AUTHORITY_* variables or a TOML file named by"
        " SESSION_AUTHORITY_CONFIG; see the README.\n\nExit codes: 0 done; 1 what was asked for is"
        " not so or can't be done; 2 wrong usage or settings."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for command in (dev.dev, serve.serve, serve.check, health.health, demo.demo):
    app.command()(command)
app.add_typer(callers.app, name="callers")
app.command("redis-acl")(redis.redis_acl)
app.add_typer(devices.app, name="devices")
app.add_typer(events.app, name="events")
app.command()(inspection.inspect)
app.add_typer(keys.app, name="keys")
app.add_typer(relay.app, name="relay")
app.command()(restored.restored)
app.add_typer(sessions.app, name="sessions")


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


def _version(given: bool) -> None:
    if given:
        version()
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the `session-authority` command."""
    app()
