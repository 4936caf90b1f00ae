"""Implements `session-authority health`, which asks a server whether it is serving."""

from __future__ import annotations

from typing import Annotated

import typer

from session_authority.cli.connection_options import calls_server
from session_authority.cli.terminal import JsonOption, errors_in_one_line, fail, out, show_json
from session_authority.console.connection import Target
from session_authority.console.connection import health as health_of
from session_authority.processes.health_service import LIVENESS


@errors_in_one_line()
@calls_server(for_health=True)
def health(
    target: Target,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, max=60, metavar="SECONDS", help="How long to wait for an answer."),
    ] = 3.0,
    liveness: Annotated[
        bool,
        typer.Option(
            "--liveness",
            help="Ask only whether the server's process runs, even if its Redis is away.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a server whether it is serving. The exit code is 0 if the server is serving, 1 if not.

    Without [bold]--address[/bold] and TLS, the command asks at the address
    SESSION_AUTHORITY_HEALTH_LISTEN, if that setting is given.
    """
    status = health_of(target.reachable(), timeout, LIVENESS if liveness else "")
    if as_json:
        show_json({"address": str(target), "status": status})
    elif status == "SERVING":
        out.print(status)
    if status != "SERVING":
        fail(f"{target}: {status}")
