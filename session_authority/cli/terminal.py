"""What all commands share: where they print, how they fail, what they check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from session_authority import workers
from session_authority.config import Listen, Settings, SettingsError, load_settings
from session_authority.server import CannotListen
from session_authority.store import BadRedisUrl, Limits, connect
from session_authority.store.embedded import EmbeddedUnavailable
from session_authority.tokens import KeyringError

FAILED = 1
WRONG_USAGE = 2

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="The server. Default: SESSION_AUTHORITY_LISTEN.", show_default=False
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
    except (KeyringError, CannotListen, EmbeddedUnavailable, workers.WorkersFailed) as error:
        fail(str(error))


def server_at(address: str | None) -> Listen:
    """The server that is meant."""
    try:
        return Listen.parse(address) if address else load_settings().listen
    except ValueError as error:
        fail(f"--address: {error}", WRONG_USAGE)


def check_redis_url(settings: Settings) -> None:
    """Raises SettingsError for a Redis URL that can't be used."""
    if settings.redis_url is not None:
        try:
            connect(settings.redis_url.get_secret_value(), Limits())
        except BadRedisUrl as error:
            raise SettingsError(f"SESSION_AUTHORITY_REDIS_URL: {error}") from None


def now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


def when(moment: datetime | None) -> str:
    """A moment, for tables."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
