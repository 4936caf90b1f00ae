"""Implements `session-authority gateway`, which answers proxies that ask whether a request may go
on to an app.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from session_authority.cli.terminal import errors_in_one_line, existing_file, fail, out
from session_authority.runtime import event_loops, logs
from session_authority.runtime.settings import SettingsError, load_settings

_MISSING = (
    "the gateway needs the Python client, the page of devices and a web server: pip install"
    " 'session-authority[gateway]'"
)


@errors_in_one_line()
def gateway(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The TOML file of the gateway. Default: SESSION_AUTHORITY_GATEWAY_CONFIG.",
            show_default=False,
            callback=existing_file,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check the file, and ask the service once."),
    ] = False,
) -> None:
    """Answer proxies that ask whether a request may go on to an app.

    Runs until it is stopped. You can start several gateways, as many as you like. See
    docs/gateway.md.
    """
    try:
        from session_authority.gateway.configuration import GatewayConfigError, load_gateway_config
        from session_authority.processes.gateway import answers_of, authority_of, run_gateway
    except ModuleNotFoundError as error:
        if error.name not in ("session_authority_client", "uvicorn"):
            raise
        fail(_MISSING)
    settings = load_settings()
    path = config or settings.gateway_config
    if path is None:
        raise SettingsError(
            "SESSION_AUTHORITY_GATEWAY_CONFIG: must name the gateway's file, or give --config"
        )
    try:
        found = load_gateway_config(path)
    except GatewayConfigError as error:
        raise SettingsError(str(error)) from None

    async def asked() -> str:
        async with authority_of(found) as authority:
            return await answers_of(authority)

    if check:
        logs.configure("error")
        if failure := asyncio.run(asked()):
            fail(f"the file is good, but the service gives no answer: {failure}")
        out.print("the file is good, and the service answers", markup=False)
        return
    logs.configure(settings.log_level)
    event_loops.run(run_gateway(found, settings.metrics_listen), settings.event_loop)
