"""The command line: starts the service, asks after its health, keeps its keys.

Exit codes: 0 done; 1 what was asked for is not so or can't be done; 2 wrong usage or settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from session_authority import __version__, logs, workers
from session_authority.config import Listen, Settings, SettingsError, load_settings
from session_authority.domain.policy import LEEWAY
from session_authority.server import CannotListen, Mode
from session_authority.store import BadRedisUrl, Limits, connect
from session_authority.store.embedded import EmbeddedUnavailable, EmbeddedValkey
from session_authority.tokens import (
    Algorithm,
    KeyringError,
    KeyState,
    add_key,
    generate,
    load_keyring,
    promote,
    retire,
)

FAILED = 1
WRONG_USAGE = 2

app = typer.Typer(
    name="session-authority",
    help="The service that other services ask whether a user's session on a device is still good.\n\n"
    "Start with [bold]dev[/bold], then let [bold]demo[/bold] play a session's life. Settings are "
    "SESSION_AUTHORITY_* variables or a TOML file named by SESSION_AUTHORITY_CONFIG; see the README.\n\n"
    "Exit codes: 0 done; 1 what was asked for is not so or can't be done; 2 wrong usage or settings.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(
    help="Keep the keys that sign tokens, in a folder with one file a key.\n\n"
    "A key is [bold]published[/bold] first, so that everyone can learn it; [bold]promote[/bold] makes it the one that "
    "signs, and the one before it goes on verifying until its last token has ended; then it can be [bold]retired[/bold]. "
    "Running servers see changes within a second.",
    no_args_is_help=True,
)
app.add_typer(keys_app, name="keys")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

ListenOption = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.", show_default="127.0.0.1:50051")
]
KeysOption = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="The key folder. Default: SESSION_AUTHORITY_KEYS.", show_default=False),
]


def main() -> None:
    """The entry point of the `session-authority` command."""
    app()


def _fail(text: str, code: int = FAILED) -> NoReturn:
    for line in text.splitlines() or [text]:
        _err.print(f"session-authority: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _fail(str(error), WRONG_USAGE)
    except (KeyringError, CannotListen, EmbeddedUnavailable, workers.WorkersFailed) as error:
        _fail(str(error))


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(__version__)


@app.command()
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
    with _errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure(settings.log_level)
        _refuse_off_loopback(settings)
        _check_metrics_ports(settings)
        folder = data_dir or _default_data_dir()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            _fail(f"--data-dir: can't make {folder}: {error.strerror}", WRONG_USAGE)
        if settings.keys is None:
            settings = settings.model_copy(update={"keys": _dev_keys(folder / "keys")})
        _check_keys(settings)
        mode = Mode(reflection=True)
        if settings.redis_url is not None:
            _check_redis_url(settings)
            workers.run(settings, mode, lambda bound: _greet(settings, bound, None))
            return
        valkey = EmbeddedValkey(folder)
        valkey.start()
        try:
            embedded = load_settings(listen=listen, redis_url=valkey.url, keys=settings.keys)
            workers.run(embedded, mode, lambda bound: _greet(embedded, bound, folder))
        finally:
            valkey.stop()


@app.command()
def serve(listen: ListenOption = None) -> None:
    """Run the service against a Redis of yours: needs SESSION_AUTHORITY_REDIS_URL and SESSION_AUTHORITY_KEYS.

    Without TLS and access control it listens on loopback only.
    """
    with _errors_in_one_line():
        settings = load_settings(listen=listen)
        logs.configure(settings.log_level)
        faults = []
        if settings.redis_url is None:
            faults.append("SESSION_AUTHORITY_REDIS_URL: must be set")
        if settings.keys is None:
            faults.append(
                "SESSION_AUTHORITY_KEYS: must name a key folder; make one with `session-authority keys generate --promote --dir DIR`"
            )
        for check in (_refuse_off_loopback, _check_metrics_ports, _check_redis_url, _check_keys):
            try:
                check(settings)
            except SettingsError as error:
                faults.append(str(error))
        if faults:
            raise SettingsError("\n".join(faults))
        workers.run(settings, Mode(reflection=False), lambda _: None)


@app.command()
def health(
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The server. Default: SESSION_AUTHORITY_LISTEN.", show_default=False),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for an answer.")] = 3.0,
) -> None:
    """Ask a server whether it is serving: exit code 0 if it is, 1 if not."""
    from session_authority import probe

    with _errors_in_one_line():
        try:
            target = Listen.parse(address) if address else load_settings().listen
        except ValueError as error:
            _fail(f"--address: {error}", WRONG_USAGE)
        status = probe.health(probe.reachable(target), timeout)
        if status != "SERVING":
            _fail(f"{target}: {status}")
        _out.print(status)


@app.command()
def demo(
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The server. Default: SESSION_AUTHORITY_LISTEN.", show_default=False),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds to wait for a token to be old enough to be renewed.")
    ] = 60.0,
) -> None:
    """Play a session's whole life against a running dev server, and tell what happens.

    Signs a made-up user in on two devices, renews, steals a token, and sees the alarm. Start the server with a short
    SESSION_AUTHORITY_GRACE and SESSION_AUTHORITY_ALARM_AFTER ([bold]make run[/bold] does) unless you like to wait.
    """
    from session_authority import demo as life

    with _errors_in_one_line():
        try:
            target = Listen.parse(address) if address else load_settings().listen
        except ValueError as error:
            _fail(f"--address: {error}", WRONG_USAGE)
        try:
            life.play(target, _out, timedelta(seconds=patience))
        except life.DemoFailed as error:
            _fail(str(error))


@keys_app.command("generate")
def keys_generate(
    directory: KeysOption = None,
    algorithm: Annotated[Algorithm, typer.Option("--algorithm", help="What it signs with.")] = Algorithm.EDDSA,
    promote_now: Annotated[bool, typer.Option("--promote", help="Let it sign at once.")] = False,
) -> None:
    """Make a key. It is published, and signs once it is promoted."""
    with _errors_in_one_line():
        folder = _key_folder(directory)
        key = generate(algorithm, _now())
        add_key(folder, key)
        if promote_now:
            promote(folder, key.kid, _now())
        _out.print(key.kid, markup=False)


@keys_app.command("list")
def keys_list(directory: KeysOption = None) -> None:
    """List the keys and their states."""
    with _errors_in_one_line():
        ring = load_keyring(_key_folder(directory))
        table = Table("key ID", "algorithm", "state", "created", "promoted", "demoted", box=None, pad_edge=False)
        for key in sorted(ring.keys, key=lambda k: k.created):
            table.add_row(
                key.kid,
                key.algorithm.value,
                ring.state(key.kid).value,
                _when(key.created),
                _when(key.promoted),
                _when(ring.demoted(key.kid)),
            )
        _out.print(table)
        if not any(ring.state(key.kid) is KeyState.SIGNING for key in ring.keys):
            _err.print("No key signs: promote one.")


@keys_app.command("promote")
def keys_promote(
    kid: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key; see `keys list`.")],
    directory: KeysOption = None,
) -> None:
    """Let a key sign from now on. The one that did goes on verifying."""
    with _errors_in_one_line():
        promote(_key_folder(directory), kid, _now())
        _out.print(f"{kid} signs.", markup=False)


@keys_app.command("retire")
def keys_retire(
    kid: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key; see `keys list`.")],
    directory: KeysOption = None,
    force: Annotated[bool, typer.Option("--force", help="Even if tokens that it signed still live.")] = False,
) -> None:
    """Remove a key that nothing needs any more.

    Refused while sessions may still hold a token that it signed: those users would have to sign in again.
    """
    with _errors_in_one_line():
        policy = load_settings().policy()
        retire(_key_folder(directory), kid, _now(), policy.token_ttl + policy.idle_timeout + LEEWAY, force)
        _out.print(f"{kid} is gone.", markup=False)


def _now() -> datetime:
    return datetime.now(UTC)


def _when(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _key_folder(given: Path | None) -> Path:
    folder = given or load_settings().keys
    if folder is None:
        _fail("name the key folder with --dir or SESSION_AUTHORITY_KEYS", WRONG_USAGE)
    return folder


def _default_data_dir() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "session-authority"


def _dev_keys(folder: Path) -> Path:
    """The development key folder, with a key that signs."""
    if not folder.exists() or (folder.is_dir() and not any(folder.glob("[!.]*"))):
        now = _now()
        add_key(folder, replace(generate(Algorithm.EDDSA, now), promoted=now))
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


def _check_redis_url(settings: Settings) -> None:
    if settings.redis_url is not None:
        try:
            connect(settings.redis_url.get_secret_value(), Limits())
        except BadRedisUrl as error:
            raise SettingsError(f"SESSION_AUTHORITY_REDIS_URL: {error}") from None


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
    _out.print(f"\nSession Authority {__version__} listens on [bold]{listen}[/bold], for development only.")
    if data_dir is not None:
        _out.print(f"Sessions and keys are kept in {data_dir}.", soft_wrap=True, markup=False)
    _out.print(
        f"A superseded token is good for {_brief(settings.grace)} (GRACE), "
        f"and raises the alarm after {_brief(settings.alarm_after)} (ALARM_AFTER).\n"
    )
    for title, line in (
        ("Sign in", f"{sign_in}/IssueDevice"),
        ("Validate", f"{validate}/ValidateSession"),
        ("My devices", f"{devices}/ListDevices"),
        ("Everything it can do", f"grpcurl -plaintext {listen} describe session_authority.v1.SessionAuthorityService"),
        ("A whole session's life, told", f"session-authority demo --address {listen}"),
    ):
        _out.print(f"[dim]# {title}[/dim]")
        _out.print(line, markup=False, soft_wrap=True)
    _out.print("\nCtrl-C stops it.\n")
    _out.file.flush()  # a pipe would keep it until the end


def _brief(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
