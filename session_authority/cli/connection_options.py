"""Defines the options of commands that call a server: the address of the server, and the
credentials for the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from session_authority.cli.terminal import WRONG_USAGE, existing_file, fail
from session_authority.console.connection import Target
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.settings import load_settings
from session_authority.runtime.tls import (
    CertificateError,
    TlsFiles,
    load_cas,
    load_certificates,
)

Command = Callable[..., None]


def _server(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The server. Default: SESSION_AUTHORITY_LISTEN.",
            show_default=False,
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Speak TLS, trusting the CAs that gRPC trusts.")
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Speak TLS, trusting these CAs (PEM).",
            show_default=False,
            callback=existing_file,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The certificate to show the server (PEM).",
            show_default=False,
            callback=existing_file,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The private key of that certificate (PEM).",
            show_default=False,
            callback=existing_file,
        ),
    ] = None,
    tls_server_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name in the server's certificate.",
            show_default="its address",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with a caller's bearer token.",
            show_default=False,
            callback=existing_file,
        ),
    ] = None,
    *,
    for_health: bool,
) -> Target:
    """Returns the server that these options name. The list `_OPTIONS` has all parameters of this
    function except `for_health`. If an option is invalid, the command fails.
    """
    if (tls_cert is None) != (tls_key is None):
        fail("--tls-cert and --tls-key: give both or neither", WRONG_USAGE)
    tls = tls or tls_ca is not None or tls_cert is not None
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
        trusted = None if tls_ca is None else load_cas(tls_ca, now())
        shown = (
            None
            if tls_cert is None or tls_key is None
            else load_certificates(TlsFiles(tls_cert, tls_key), now(), for_server=False)
        )
    except CertificateError as error:
        fail(str(error), WRONG_USAGE)
    return Target(
        listen,
        tls=tls,
        ca=trusted,
        certificate=None if shown is None else shown.chain,
        key=None if shown is None else shown.key,
        token=token,
        server_name=tls_server_name,
    )


_OPTIONS = [
    option
    for option in signature(_server, eval_str=True).parameters.values()
    if option.kind is Parameter.POSITIONAL_OR_KEYWORD
]


def calls_server(*, for_health: bool = False) -> Callable[[Command], Command]:
    """Decorates a command: adds the options that name a server. The command gets this server as its
    first argument.

    The default address of the server is the setting LISTEN. If `for_health` is True, the default
    address is the setting HEALTH_LISTEN, provided that HEALTH_LISTEN is set and that no option asks
    for TLS.
    """

    def decorate(command: Command) -> Command:
        _, *own = signature(command, eval_str=True).parameters.values()
        address, *others = _OPTIONS

        @wraps(command)
        def run(**given: Any) -> None:
            server = {option.name: given.pop(option.name) for option in _OPTIONS}
            command(_server(**server, for_health=for_health), **given)

        required = [option for option in own if option.default is Parameter.empty]
        optional = [option for option in own if option.default is not Parameter.empty]
        parameters = [*required, address, *optional, *others]
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {option.name: option.annotation for option in parameters}
        return run

    return decorate


def _listens_at(for_health: bool) -> Listen:
    """Returns the address at which a server with the settings of this process listens. The address
    is HEALTH_LISTEN if `for_health` is True and HEALTH_LISTEN is set. In all other cases, the
    address is LISTEN.
    """
    settings = load_settings()
    listen: Listen = (for_health and settings.health_listen) or settings.listen
    return listen


def token_of(option: str, content: bytes) -> str:
    """Returns the token in a file. `content` is the content of the file. If the content is not
    exactly one token, the command fails with an error that names `option`. The error does not show
    the content.
    """
    token = content.decode("ascii", "replace").strip()
    if re.fullmatch("[!-~]+", token) is None:  # gRPC's error would show a wrong token
        fail(f"{option}: must hold a token and nothing else", WRONG_USAGE)
    return token


def _token(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        fail(f"--token-file: {path}: can't be read: {error.strerror}", WRONG_USAGE)
    return token_of(f"--token-file: {path}", content)
