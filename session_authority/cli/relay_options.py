"""Owns what the `relay` commands share: the settings, the option for the endpoints file, and access
to the state of deliveries. The command `inspect` uses the same settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from session_authority.cli.redis import check_redis_url
from session_authority.cli.terminal import existing_file, fail
from session_authority.domain.errors import StoreUnavailable
from session_authority.processes.relay import deliveries_of
from session_authority.relay import Endpoint, EndpointsError, load_endpoints
from session_authority.runtime import logs
from session_authority.runtime.settings import Settings, SettingsError, load_settings
from session_authority.store import Deliveries

EndpointsOption = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        metavar="FILE",
        help="The TOML file of endpoints. Default: SESSION_AUTHORITY_RELAY_ENDPOINTS.",
        show_default=False,
        callback=existing_file,
    ),
]

T = TypeVar("T")


def relay_settings() -> Settings:
    """Returns the settings. Raises SettingsError if a setting is invalid, or if no Redis URL is
    set.
    """
    settings = load_settings()
    if settings.redis_url is None:
        raise SettingsError("SESSION_AUTHORITY_REDIS_URL: must be set")
    check_redis_url(settings)
    return settings


def endpoints_of(settings: Settings, given: Path | None) -> tuple[Endpoint, ...]:
    """Returns the endpoints in the file `given`. If `given` is None, returns the endpoints in the
    file that the settings name. Raises SettingsError if no file is named, or if the file is
    invalid.
    """
    path = given or settings.relay_endpoints
    if path is None:
        raise SettingsError(
            "SESSION_AUTHORITY_RELAY_ENDPOINTS: must name the file of endpoints, or give"
            " --endpoints"
        )
    try:
        return load_endpoints(path)
    except EndpointsError as error:
        raise SettingsError(str(error)) from None


def with_deliveries(settings: Settings, work: Callable[[Deliveries], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` with the state of deliveries, and returns its result. The command fails if Redis
    gives no answer.
    """

    async def run() -> T:
        async with deliveries_of(settings) as (deliveries, _):
            return await work(deliveries)

    logs.configure("error")
    try:
        return asyncio.run(run())
    except StoreUnavailable:
        fail("Redis does not answer")
