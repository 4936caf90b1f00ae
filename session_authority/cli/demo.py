"""Implements `session-authority demo`, which shows the life of a session on a running server."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from session_authority.cli.connection_options import calls_server
from session_authority.cli.terminal import errors_in_one_line, fail, out
from session_authority.console.connection import Target


@errors_in_one_line()
@calls_server()
def demo(
    target: Target,
    patience: Annotated[
        float,
        typer.Option(
            min=1,
            max=3600,
            metavar="SECONDS",
            help="How long to wait for a token to be old enough to be renewed.",
        ),
    ] = 60.0,
) -> None:
    """Play a session's whole life on a running dev server, and print what happens.

    Signs a made-up user in on two devices, renews tokens, steals a token, and shows the alarm.
    Start the server with short intervals: SESSION_AUTHORITY_GRACE, SESSION_AUTHORITY_DURABLE_AFTER
    and SESSION_AUTHORITY_ALARM_AFTER ([bold]make run[/bold] does). With longer intervals, the demo
    also needs a longer [bold]--patience[/bold].
    """
    from session_authority.console.demo import DemoFailed, play

    try:
        play(target, out, timedelta(seconds=patience))
    except DemoFailed as error:
        fail(str(error))
