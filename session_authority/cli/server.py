"""`dev`, `serve`, and what one asks a running server: `health`, `demo`."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from session_authority import __version__, logs, workers
from session_authority.cli.terminal import (
    WRONG_USAGE,
    AddressOption,
    TlsAuthorityOption,
    TlsCertificateOption,
    TlsKeyOption,
    TlsOption,
    TokenFileOption,
    check_redis_url,
    errors_in_one_line,
    fail,
    now,
    out,
    server_at,
)
from session_authority.config import Listen, Settings, SettingsError, load_settings
from session_authority.server import Mode
from session_authority.store.embedded import EmbeddedValkey
from session_authority.tokens import Algorithm, KeyringError, add_key, generate, load_keyring

ListenOption = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.", show_default="127.0.0.1:50051")
]


def dev(
    listen: ListenOption = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where sessions and keys are kept.", show_default="~/.local/share/session-authority"
        ),
    ] = None,
) -> None:
    """Run everything on this machine, for development: plaintext on loopback, a bundled Valkey, a generated key.

    Sessions survive a restart. Obeys the same settings as [bold]serve[/bold]; with SESSION_AUTHORITY_REDIS_URL or
    SESSION_AUTHORITY_KEYS set, those are used instead of the bundled ones.
    """
    with errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure(settings.log_level)
        _refuse_off_loopback(settings)
        _check_metrics_ports(settings)
        folder = data_dir or _default_data_dir()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            fail(f"--data-dir: can't make {folder}: {error.strerror}", WRONG_USAGE)
        if settings.keys is None:
            settings = settings.model_copy(update={"keys": _dev_keys(folder / "keys")})
        _check_keys(settings)
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
    """Run the service against a Redis of yours: needs SESSION_AUTHORITY_REDIS_URL and SESSION_AUTHORITY_KEYS.

    Without TLS and access control it listens on loopback only.
    """
    with errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure(settings.log_level)
        faults = []
        if settings.redis_url is None:
            faults.append("SESSION_AUTHORITY_REDIS_URL: must be set")
        if settings.keys is None:
            faults.append(
                "SESSION_AUTHORITY_KEYS: must name a key folder; make one with `session-authority keys generate --promote --dir DIR`"
            )
        for check in (_refuse_off_loopback, _check_metrics_ports, check_redis_url, _check_keys):
            try:
                check(settings)
            except SettingsError as error:
                faults.append(str(error))
        if faults:
            raise SettingsError("\n".join(faults))
        workers.run(settings, Mode(reflection=False), lambda _: None)


def health(
    address: AddressOption = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for an answer.")] = 3.0,
    tls: TlsOption = False,
    tls_ca: TlsAuthorityOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Ask a server whether it is serving: exit code 0 if it is, 1 if not."""
    from session_authority import probe

    with errors_in_one_line():
        target = server_at(address, tls, tls_ca, tls_cert, tls_key, token_file, for_health=True)
        status = probe.health(target.reachable(), timeout)
        if status != "SERVING":
            fail(f"{target}: {status}")
        out.print(status)


def demo(
    address: AddressOption = None,
    patience: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds to wait for a token to be old enough to be renewed.")
    ] = 60.0,
    tls: TlsOption = False,
    tls_ca: TlsAuthorityOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Play a session's whole life against a running dev server, and tell what happens.

    Signs a made-up user in on two devices, renews, steals a token, and sees the alarm. Start the server with a short
    SESSION_AUTHORITY_GRACE and SESSION_AUTHORITY_ALARM_AFTER ([bold]make run[/bold] does) unless you like to wait.
    """
    from session_authority import demo as life

    with errors_in_one_line():
        target = server_at(address, tls, tls_ca, tls_cert, tls_key, token_file)
        try:
            life.play(target, out, timedelta(seconds=patience))
        except life.DemoFailed as error:
            fail(str(error))


def _default_data_dir() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "session-authority"


def _dev_keys(folder: Path) -> Path:
    """The development key folder, with a key that signs."""
    if not folder.exists() or (folder.is_dir() and not any(folder.glob("[!.]*"))):
        made = now()
        add_key(folder, replace(generate(Algorithm.EDDSA, made), promoted=made))
    return folder


def _refuse_off_loopback(settings: Settings) -> None:
    faults = [
        f"SESSION_AUTHORITY_{name}: {address} can be reached from elsewhere; without TLS and access control only loopback "
        "(127.0.0.1, ::1, localhost) is allowed"
        for name, address in (("LISTEN", settings.listen), ("METRICS_LISTEN", settings.metrics_listen))
        if address is not None and not address.is_loopback
    ]
    if faults:
        raise SettingsError("\n".join(faults))


def _check_metrics_ports(settings: Settings) -> None:
    metrics = settings.metrics_listen
    if metrics is not None and settings.workers > 1 and not 0 < metrics.port <= 65536 - settings.workers:
        raise SettingsError(
            "SESSION_AUTHORITY_METRICS_LISTEN: must leave each worker a port, counting up from a named one"
        )


def _check_keys(settings: Settings) -> None:
    if settings.keys is not None:
        try:
            load_keyring(settings.keys).signing  # noqa: B018 - raises if there is none
        except KeyringError as error:
            raise SettingsError(f"SESSION_AUTHORITY_KEYS: {error}") from None


def _greet(settings: Settings, listen: Listen, data_dir: Path | None) -> None:
    """What a developer wants to know and to paste."""
    call = f"grpcurl -plaintext -d '{{}}' {listen} session_authority.v1.SessionAuthorityService"
    sign_in = call.replace(
        "{}", '{"user_id": "sami", "client": {"user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}}'
    )
    validate = call.replace("{}", '{"access_token": "TOKEN", "device_id": "DEVICE_ID"}')
    devices = call.replace("{}", '{"user_id": "sami"}')
    out.print(f"\nSession Authority {__version__} listens on [bold]{listen}[/bold], for development only.")
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
        ("Everything it can do", f"grpcurl -plaintext {listen} describe session_authority.v1.SessionAuthorityService"),
        ("A whole session's life, told", f"session-authority demo --address {listen}"),
        ("What happens, as it happens", f"session-authority events tail --address {listen}"),
    ]
    if data_dir is not None and settings.redis_url is not None:  # one that nobody else knows of, and without a password
        relay = f"SESSION_AUTHORITY_REDIS_URL={settings.redis_url.get_secret_value()} session-authority relay"
        lines.append(("Deliver it to an endpoint of yours (docs/events.md)", f"{relay} --endpoints endpoints.toml"))
    for title, line in lines:
        out.print(f"[dim]# {title}[/dim]")
        out.print(line, markup=False, soft_wrap=True)
    out.print("\nCtrl-C stops it.\n")
    out.file.flush()  # a pipe would keep it until the end


def _brief(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
