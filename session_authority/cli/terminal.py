"""What all commands share: where they print, how they fail, what they check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from session_authority.access import AccessError
from session_authority.console.connection import Target
from session_authority.processes import workers
from session_authority.processes.health import UnsafeStore
from session_authority.processes.listening import CannotListen
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings, SettingsError, load_settings
from session_authority.runtime.tls import (
    CertificateError,
    TlsFiles,
    load_authorities,
    load_certificates,
)
from session_authority.store import BadRedisUrl, Limits, connect
from session_authority.store.embedded import EmbeddedUnavailable
from session_authority.tokens import KeyringError

FAILED = 1
_WIDE = 1000
WRONG_USAGE = 2

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="The server. Default: SESSION_AUTHORITY_LISTEN.",
        show_default=False,
    ),
]


TlsOption = Annotated[
    bool, typer.Option("--tls", help="Speak TLS, trusting the authorities that gRPC trusts.")
]
TlsAuthorityOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        help="Speak TLS, trusting these authorities (PEM).",
        show_default=False,
    ),
]
TlsCertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="The certificate to show the server (PEM).",
        show_default=False,
    ),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="FILE", help="Its private key (PEM).", show_default=False),
]
TlsServerNameOption = Annotated[
    str | None,
    typer.Option(
        "--tls-server-name",
        metavar="NAME",
        help="The name in the server's certificate.",
        show_default="its address",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="A file with a caller's bearer token.",
        show_default=False,
    ),
]


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Ends the command; each line of the text is told."""
    for line in text.splitlines() or [text]:
        err.print(f"session-authority: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What people can mend is told without a traceback."""
    try:
        yield
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)
    except (
        AccessError,
        CertificateError,
        KeyringError,
        CannotListen,
        EmbeddedUnavailable,
        UnsafeStore,
        workers.WorkersFailed,
    ) as error:
        fail(str(error))


def server_at(
    address: str | None,
    tls: bool,
    authority: Path | None,
    certificate: Path | None,
    key: Path | None,
    server_name: str | None,
    token_file: Path | None,
    *,
    for_health: bool = False,
) -> Target:
    """The server that is meant, and what to show it."""
    if (certificate is None) != (key is None):
        fail("--tls-cert and --tls-key: give both or neither", WRONG_USAGE)
    tls = tls or authority is not None or certificate is not None
    try:
        listen = Listen.parse(address) if address else _listens_at(for_health and not tls)
    except ValueError as error:
        fail(f"--address: {error}", WRONG_USAGE)
    token = None if token_file is None else _token(token_file)
    if token is not None and not tls and not listen.is_loopback:
        fail(
            "--token-file: a token goes to another machine over TLS only; give --tls or --tls-ca",
            WRONG_USAGE,
        )
    try:
        trusted = None if authority is None else load_authorities(authority, now())
        shown = (
            None
            if certificate is None or key is None
            else load_certificates(TlsFiles(certificate, key), now(), for_server=False)
        )
    except CertificateError as error:
        fail(str(error), WRONG_USAGE)
    return Target(
        listen,
        tls=tls,
        authority=trusted,
        certificate=None if shown is None else shown.chain,
        key=None if shown is None else shown.key,
        token=token,
        server_name=server_name,
    )


def _listens_at(for_health: bool) -> Listen:
    """Where a server with these settings listens."""
    settings = load_settings()
    listen = (
        settings.health_listen
        if for_health and settings.health_listen is not None
        else settings.listen
    )
    assert isinstance(listen, Listen)
    return listen


def _token(path: Path) -> str:
    try:
        token = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        fail(f"--token-file: {path}: can't be read: {error.strerror}", WRONG_USAGE)
    if re.fullmatch("[!-~]+", token) is None:  # gRPC would say so, with the token
        fail(f"--token-file: {path}: must hold a token and nothing else", WRONG_USAGE)
    return token


def check_redis_url(settings: Settings) -> None:
    """Raises SettingsError for a Redis URL that can't be used."""
    if settings.redis_url is not None:
        try:
            connect(settings.redis_url.get_secret_value(), Limits())
        except BadRedisUrl as error:
            raise SettingsError(f"SESSION_AUTHORITY_REDIS_URL: {error}") from None


def show(table: Table) -> None:
    """Prints a table; whole lines where they are read by a program, or pasted from a file."""
    if out.is_terminal:
        out.print(table)
    else:
        out.print(table, width=_WIDE, crop=False, no_wrap=True)


def when(moment: datetime | None) -> str:
    """A moment, for tables."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
