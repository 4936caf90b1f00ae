"""Implements `session-authority events`, which shows what happens to sessions."""

from __future__ import annotations

from typing import Annotated

import typer

from session_authority.cli.connection_options import calls_server
from session_authority.cli.terminal import (
    WRONG_USAGE,
    Commands,
    JsonOption,
    errors_in_one_line,
    fail,
    out,
)
from session_authority.console.connection import Target
from session_authority.runtime.clock import now

app = typer.Typer(
    cls=Commands, help="See what happens to sessions, as it happens.", no_args_is_help=True
)


@app.command("tail")
@errors_in_one_line()
@calls_server()
def events_tail(
    target: Target,
    users: Annotated[
        list[str] | None,
        typer.Option(
            "--user", metavar="ID", help="Only of this user; may be repeated.", show_default=False
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="NAME",
            help="Only of this type, like session_replayed; may be repeated.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Begin this long ago (15m, 2h, 7d), or at a time like 2026-11-24T09:30:00Z.",
            show_default="now",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after N events.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show events as they happen, until Ctrl-C.

    After a restart of the server, the command continues without a gap. If events may be missing,
    the command prints a line that says so. [bold]--user[/bold] does not leave out events that
    concern all users.
    """
    from session_authority.console import tail
    from session_authority.console.following import TailFailed

    try:
        ask = tail.question(types or (), users or (), since, now())
    except ValueError as error:
        fail(str(error), WRONG_USAGE)
    try:
        tail.tail(target, ask, out, as_json=as_json, count=count)
    except TailFailed as error:
        fail(str(error))
