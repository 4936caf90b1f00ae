"""Implements `session-authority sessions`, which shows whether a token is good."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from session_authority.cli.connection_options import calls_server, token_of
from session_authority.cli.devices import minute
from session_authority.cli.terminal import (
    FAILED,
    Commands,
    JsonOption,
    errors_in_one_line,
    existing_file,
    fail,
    show,
    show_json,
)
from session_authority.console.connection import Target
from session_authority.runtime.text import printable

app = typer.Typer(
    cls=Commands,
    help=(
        "See what a token is worth.\n\nA caller needs the role [bold]operator[/bold] in the access"
        " policy, because only an operator may validate without any effect on the session."
    ),
    no_args_is_help=True,
)

# Explains each status of a token in a few words.
MEANINGS = {
    "ACTIVE": "the session is good",
    "TOKEN_MISSING": "no token came",
    "TOKEN_INVALID": "this service did not sign it, or its key was revoked or removed",
    "TOKEN_EXPIRED": "the token's time is over; the session may still live",
    "NO_SESSION": "signed out, revoked or never there, or no device ID was given",
    "SESSION_EXPIRED": "the session's time is over, or it was unused for too long",
    "SUPERSEDED": "a newer token of the session is in use",
    "REPLAYED": "a sign of theft: presenting the token raises the alarm",
    "SESSION_ENDED": "it is of an earlier session on the device",
    "WRONG_DEVICE": "it was made for another device",
}


@app.command("show")
@errors_in_one_line()
@calls_server()
def sessions_show(
    target: Target,
    access_token: Annotated[
        Path | None,
        typer.Option(
            "--access-token",
            metavar="FILE",
            help="A file with the user's access token.",
            show_default="standard input",
            callback=existing_file,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="The device ID that came with the token. Without it, no session is found.",
            show_default=False,
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show whether a token is good on a device. This check does not count as a use of the session,
    and raises no alarm. Exit code 1 means that the session is not good.

    The token is read from a file or from standard input, because other users of the machine can see
    arguments.
    """
    from session_authority.console.support import CallFailed, worth_of

    token = token_of("--access-token", _read(access_token))
    try:
        worth = worth_of(target, token, device)
    except CallFailed as error:
        fail(str(error))
    if as_json:
        show_json(worth)
    else:
        table = Table("", "", box=None, pad_edge=False, show_header=False)
        for title, text in _rows(worth):
            table.add_row(title, Text(printable(text)))
        show(table, whole_lines=True)
    if not worth["active"]:
        raise typer.Exit(FAILED)


def _read(path: Path | None) -> bytes:
    """Reads the token from the file, or from standard input if `path` is None. A terminal does not
    show the token.
    """
    if path is None and sys.stdin.isatty():
        return getpass.getpass("Access token: ").encode()
    try:
        return sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        fail(f"--access-token: can't be read: {error.strerror}")


def _rows(worth: dict[str, Any]) -> Iterator[tuple[str, str]]:
    status = worth["status"].removeprefix("SESSION_STATUS_")
    yield "status", f"{status}: {MEANINGS.get(status, 'a newer server says so')}"
    session = worth.get("session")
    if session is None:
        return
    yield "user", session["user_id"]
    yield "device", session["device_id"]
    yield "session", session["session_id"]
    yield "signed in", minute(session.get("sign_in_time", ""))
    yield "by", ", ".join(session["auth_methods"]) or "-"
    yield "token ends", minute(session.get("token_expire_time", ""))
    yield "session ends", minute(session.get("expire_time", ""))
    yield "renewals", str(session["generation"] - 1)
    for name, value in sorted(session["claims"].items()):
        yield f"claim {printable(name)}", value
