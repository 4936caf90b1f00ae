"""Implements `session-authority dev`, which runs the service with a store and a key on one machine,
for development.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from session_authority import __version__
from session_authority.cli.redis import check_redis_url
from session_authority.cli.terminal import (
    WRONG_USAGE,
    ListenOption,
    errors_in_one_line,
    fail,
    out,
)
from session_authority.processes import preflight, workers
from session_authority.processes.options import Mode
from session_authority.runtime import logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings, SettingsError, Unsafe, load_settings
from session_authority.store.embedded import DataFolderInUse, EmbeddedValkey
from session_authority.tokens import Algorithm, add_key, generate


@errors_in_one_line()
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

    Sessions survive a restart. The settings are the same as for [bold]serve[/bold]. If
    SESSION_AUTHORITY_REDIS_URL is set, that Redis replaces the bundled Valkey. If
    SESSION_AUTHORITY_KEYS is set, that key folder replaces the generated key.
    """
    settings = load_settings(listen=listen)
    logs.configure(settings.log_level)
    _refuse_off_loopback(settings)
    _refuse_faults(settings, preflight.METRICS)
    folder = data_dir or _default_data_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--data-dir: can't make {folder}: {error.strerror}", WRONG_USAGE)
    if settings.keys is None:
        settings = settings.model_copy(update={"keys": _dev_keys(folder / "keys")})
    _refuse_faults(settings, preflight.KEYS, preflight.ACCESS, preflight.TLS)
    mode = Mode(reflection=True)
    if settings.redis_url is not None:
        check_redis_url(settings)
        workers.run(settings, mode, lambda bound: _greet(settings, bound, None))
        return
    valkey = EmbeddedValkey(folder)
    try:
        valkey.start()
    except DataFolderInUse as error:
        fail(
            f"{error}: to run a second one, give it a folder of its own with --data-dir, and a port"
            " with --listen"
        )
    try:
        embedded = load_settings(listen=listen, redis_url=valkey.url, keys=settings.keys)
        workers.run(embedded, mode, lambda bound: _greet(embedded, bound, folder))
    finally:
        valkey.stop()


def _default_data_dir() -> Path:
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "session-authority"


def _dev_keys(folder: Path) -> Path:
    """Returns the key folder for development. If the folder is missing, or has no files except
    hidden files, creates a signing key in the folder.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.glob("[!.]*"))):
        made = now()
        add_key(folder, replace(generate(Algorithm.EDDSA, made), promoted_at=made))
    return folder


def _refuse_off_loopback(settings: Settings) -> None:
    """Raises SettingsError if `dev` would listen at an address that other machines can reach."""
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
    """Runs the checks of `serve` that have these titles. Raises SettingsError if a check finds a
    fault. A fault that the setting ALLOW_UNSAFE can allow is always allowed here.
    """
    checked = [check for check in preflight.check_files(settings) if check.title in titles]
    if faults := preflight.refusals(checked, frozenset(Unsafe)):
        raise SettingsError("\n".join(faults))


def _greet(settings: Settings, listen: Listen, data_dir: Path | None) -> None:
    """Prints the address and the intervals of the service. Also prints commands that a developer
    can copy.
    """
    certificate = settings.tls_certificate
    options = "-plaintext" if certificate is None else f"-cacert {certificate}"
    if settings.access_policy is not None:
        options += " -H 'authorization: Bearer TOKEN_OF_A_CALLER'"
    call = f"grpcurl {options} -d '{{}}' {listen} session_authority.v1.SessionAuthorityService"
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
        "A token supersedes the one before it when it is used at an age of "
        f"{_brief(settings.durable_after)} (DURABLE_AFTER).\n"
        f"A superseded token is good for {_brief(settings.grace)} (GRACE), "
        f"and raises the alarm after {_brief(settings.alarm_after)} (ALARM_AFTER).\n"
    )
    lines = [
        ("Sign in", f"{sign_in}/IssueDevice"),
        ("Validate", f"{validate}/ValidateSession"),
        ("My devices", f"{devices}/ListDevices"),
        (
            "Everything it can do",
            f"grpcurl {options} {listen} describe session_authority.v1.SessionAuthorityService",
        ),
        ("A whole session's life, told", f"session-authority demo --address {listen}"),
        ("What happens, as it happens", f"session-authority events tail --address {listen}"),
    ]
    # The URL of Redis is printed only for the bundled Valkey. A developer can't know this URL, and
    # it contains no password.
    if data_dir is not None and settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        relay = f"SESSION_AUTHORITY_REDIS_URL={url} session-authority relay"
        title = "Deliver it to an endpoint of yours (docs/events.md)"
        lines.append((title, f"{relay} --endpoints endpoints.toml"))
    for title, line in lines:
        out.print(f"[dim]# {title}[/dim]")
        out.print(line, markup=False, soft_wrap=True)
    out.print("\nCtrl-C stops it.\n")
    out.file.flush()  # output to a pipe is buffered


def _brief(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
