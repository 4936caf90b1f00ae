"""`session-authority events`: shows what happens to sessions."""

from __future__ import annotations

from typing import Annotated

import typer

from session_authority.cli.terminal import (
    WRONG_USAGE,
    AddressOption,
    TlsAuthorityOption,
    TlsCertificateOption,
    TlsKeyOption,
    TlsOption,
    TlsServerNameOption,
    TokenFileOption,
    errors_in_one_line,
    fail,
    out,
    server_at,
)
from session_authority.runtime.clock import now

app = typer.Typer(help="See what happens to sessions, as it happens.", no_args_is_help=True)


@app.command("tail")
def events_tail(
    address: AddressOption = None,
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
            help="Also what happened since: 15m, 2h, 7d, or a time like 2026-11-24T09:30:00Z.",
            show_default="now",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after so many events.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, for machines.")
    ] = False,
    tls: TlsOption = False,
    tls_ca: TlsAuthorityOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    tls_server_name: TlsServerNameOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show events as they happen, until Ctrl-C.

    Goes on across restarts of the server, and misses nothing. What concerns everybody is always
    shown.
    """
    from session_authority.console import tail

    with errors_in_one_line():
        target = server_at(address, tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file)
        try:
            ask = tail.question(types or (), users or (), since, now())
        except ValueError as error:
            fail(str(error), WRONG_USAGE)
        try:
            tail.tail(target, ask, out, as_json=as_json, count=count)
        except tail.TailFailed as error:
            fail(str(error))
