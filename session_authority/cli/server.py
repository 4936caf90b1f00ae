"""`dev`, `serve` and its `check`, and what one asks a running server: `health`, `demo`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.table import Table
from rich.text import Text

from session_authority import __version__
from session_authority.cli.terminal import (
    FAILED,
    WRONG_USAGE,
    AddressOption,
    TlsAuthorityOption,
    TlsCertificateOption,
    TlsKeyOption,
    TlsOption,
    TlsServerNameOption,
    TokenFileOption,
    check_redis_url,
    errors_in_one_line,
    fail,
    out,
    server_at,
    show,
)
from session_authority.processes import preflight as checks
from session_authority.processes import workers
from session_authority.processes.options import Mode
from session_authority.runtime import logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings, SettingsError, Unsafe, load_settings
from session_authority.store.embedded import EmbeddedValkey
from session_authority.tokens import Algorithm, add_key, generate

_log = structlog.get_logger(__name__)

ListenOption = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="HOST:PORT", help="Where to listen.", show_default="127.0.0.1:50051"
    ),
]


def dev(
    listen: ListenOption = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where sessions and keys are kept.",
            show_default="~/.local/share/session-authority",
        ),
    ] = None,
) -> None:
    """Run everything on this machine, for development: plaintext on loopback, a bundled Valkey, a
    generated key.

    Sessions survive a restart. Obeys the same settings as [bold]serve[/bold]; with
    SESSION_AUTHORITY_REDIS_URL or SESSION_AUTHORITY_KEYS set, those are used instead of the bundled
    ones.
    """
    with errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure(settings.log_level)
        _refuse_off_loopback(settings)
        _refuse_faults(settings, checks.METRICS)
        folder = data_dir or _default_data_dir()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            fail(f"--data-dir: can't make {folder}: {error.strerror}", WRONG_USAGE)
        if settings.keys is None:
            settings = settings.model_copy(update={"keys": _dev_keys(folder / "keys")})
        _refuse_faults(settings, checks.KEYS, checks.ACCESS, checks.TLS)
        mode = Mode(reflection=True)
        if settings.redis_url is not None:
            check_redis_url(settings)
            workers.run(settings, mode, lambda bound: _greet(settings, bound, None))
            return
        valkey = EmbeddedValkey(folder)
        valkey.start()
        try:
            embedded = load_settings(listen=listen, redis_url=valkey.url, keys=settings.keys)
            workers.run(embedded, mode, lambda bound: _greet(embedded, bound, folder))
        finally:
            valkey.stop()


def serve(listen: ListenOption = None) -> None:
    """Run the service against a Redis of yours, with keys, TLS and an access policy of yours.

    Refuses to start with anything unsafe, naming all of it at once; [bold]check[/bold] shows the
    same without starting. See the README for the settings, and docs/security.md for what they guard
    against.
    """
    with errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure(settings.log_level)
        checked = asyncio.run(checks.check_everything(settings))
        if faults := checks.refusals(checked, settings.allow_unsafe):
            raise SettingsError("\n".join(faults))
        for fault in (fault for check in checked for fault in check.faults):
            _log.warning("started_anyway", fault=fault.text)
        workers.run(
            settings,
            Mode(reflection=settings.reflection, verify=checks.store_refusals),
            lambda _: None,
        )


def check(listen: ListenOption = None) -> None:
    """Look at everything that [bold]serve[/bold] looks at before it starts, and show what is wrong:
    exit code 1 if anything is.

    Starts nothing and changes nothing.
    """
    with errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure("error")
        checked = asyncio.run(checks.check_everything(settings))
        table = Table("", "", "", box=None, pad_edge=False, show_header=False)
        bad = False
        for one in checked:
            if not one.faults:
                table.add_row(one.title, "ok", Text(one.found))
            for fault in one.faults:
                allowed = fault.unsafe in settings.allow_unsafe
                bad |= not allowed
                table.add_row(
                    one.title,
                    "allowed" if allowed else "WRONG",
                    Text(fault.text if allowed else checks.told(fault)),
                )
        show(table)
        if bad:
            raise typer.Exit(FAILED)


def health(
    address: AddressOption = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds to wait for an answer.")
    ] = 3.0,
    tls: TlsOption = False,
    tls_ca: TlsAuthorityOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    tls_server_name: TlsServerNameOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Ask a server whether it is serving: exit code 0 if it is, 1 if not."""
    from session_authority.console.connection import health as health_of

    with errors_in_one_line():
        target = server_at(
            address, tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file, for_health=True
        )
        status = health_of(target.reachable(), timeout)
        if status != "SERVING":
            fail(f"{target}: {status}")
        out.print(status)


def demo(
    address: AddressOption = None,
    patience: Annotated[
        float,
        typer.Option(
            min=1, max=3600, help="Seconds to wait for a token to be old enough to be renewed."
        ),
    ] = 60.0,
    tls: TlsOption = False,
    tls_ca: TlsAuthorityOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    tls_server_name: TlsServerNameOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Play a session's whole life against a running dev server, and tell what happens.

    Signs a made-up user in on two devices, renews, steals a token, and sees the alarm. Start the
    server with a short SESSION_AUTHORITY_GRACE and SESSION_AUTHORITY_ALARM_AFTER ([bold]make
    run[/bold] does) unless you like to wait.
    """
    from session_authority.console.demo import DemoFailed, play

    with errors_in_one_line():
        target = server_at(address, tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file)
        try:
            play(target, out, timedelta(seconds=patience))
        except DemoFailed as error:
            fail(str(error))


def _default_data_dir() -> Path:
    return (
        Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        / "session-authority"
    )


def _dev_keys(folder: Path) -> Path:
    """The development key folder, with a key that signs."""
    if not folder.exists() or (folder.is_dir() and not any(folder.glob("[!.]*"))):
        made = now()
        add_key(folder, replace(generate(Algorithm.EDDSA, made), promoted=made))
    return folder


def _refuse_off_loopback(settings: Settings) -> None:
    """Development is for one machine, whatever guards it."""
    listens = {
        "LISTEN": settings.listen,
        "BEARER_LISTEN": settings.bearer_listen,
        "HEALTH_LISTEN": settings.health_listen,
        "METRICS_LISTEN": settings.metrics_listen,
    }
    faults = [
        f"SESSION_AUTHORITY_{name}: {listen} can be reached from elsewhere; `dev` listens on"
        " loopback (127.0.0.1, ::1, localhost) only, `serve` is for the rest"
        for name, listen in listens.items()
        if listen is not None and not listen.is_loopback
    ]
    if faults:
        raise SettingsError("\n".join(faults))


def _refuse_faults(settings: Settings, *titles: str) -> None:
    """Some of the checks of `serve`."""
    checked = [check for check in checks.check_files(settings) if check.title in titles]
    if faults := checks.refusals(checked, frozenset(Unsafe)):
        raise SettingsError("\n".join(faults))


def _greet(settings: Settings, listen: Listen, data_dir: Path | None) -> None:
    """What a developer wants to know and to paste."""
    wire = (
        "-plaintext" if settings.tls_certificate is None else f"-cacert {settings.tls_certificate}"
    )
    if settings.access_policy is not None:
        wire += " -H 'authorization: Bearer TOKEN_OF_A_CALLER'"
    call = f"grpcurl {wire} -d '{{}}' {listen} session_authority.v1.SessionAuthorityService"
    sign_in = call.replace(
        "{}",
        '{"user_id": "sami", "client": {"user_agent": "Mozilla/5.0 (X11; Linux x86_64)'
        ' Firefox/140.0"}}',
    )
    validate = call.replace("{}", '{"access_token": "TOKEN", "device_id": "DEVICE_ID"}')
    devices = call.replace("{}", '{"user_id": "sami"}')
    out.print(
        f"\nSession Authority {__version__} listens on [bold]{listen}[/bold], for development only."
    )
    if data_dir is not None:
        out.print(f"Sessions and keys are kept in {data_dir}.", soft_wrap=True, markup=False)
    out.print(
        f"A superseded token is good for {_brief(settings.grace)} (GRACE), "
        f"and raises the alarm after {_brief(settings.alarm_after)} (ALARM_AFTER).\n"
    )
    lines = [
        ("Sign in", f"{sign_in}/IssueDevice"),
        ("Validate", f"{validate}/ValidateSession"),
        ("My devices", f"{devices}/ListDevices"),
        (
            "Everything it can do",
            f"grpcurl {wire} {listen} describe session_authority.v1.SessionAuthorityService",
        ),
        ("A whole session's life, told", f"session-authority demo --address {listen}"),
        ("What happens, as it happens", f"session-authority events tail --address {listen}"),
    ]
    if (
        data_dir is not None and settings.redis_url is not None
    ):  # one that nobody else knows of, and without a password
        relay = (
            f"SESSION_AUTHORITY_REDIS_URL={settings.redis_url.get_secret_value()} session-authority"
            " relay"
        )
        lines.append(
            (
                "Deliver it to an endpoint of yours (docs/events.md)",
                f"{relay} --endpoints endpoints.toml",
            )
        )
    for title, line in lines:
        out.print(f"[dim]# {title}[/dim]")
        out.print(line, markup=False, soft_wrap=True)
    out.print("\nCtrl-C stops it.\n")
    out.file.flush()  # a pipe would keep it until the end


def _brief(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
