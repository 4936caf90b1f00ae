"""Implements `session-authority serve`, which runs the service, and `session-authority check`,
which shows the faults that `serve` would find.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated

import structlog
import typer
from rich.table import Table
from rich.text import Text

from session_authority.cli.terminal import (
    FAILED,
    JsonOption,
    ListenOption,
    errors_in_one_line,
    show,
    show_json,
)
from session_authority.processes import preflight, workers
from session_authority.processes.options import Mode
from session_authority.runtime import logs
from session_authority.runtime.settings import SettingsError, Unsafe, load_settings

RunningOption = Annotated[
    bool,
    typer.Option("--running", help="The service runs here: don't check that its ports are free."),
]

_log = structlog.get_logger(__name__)


@errors_in_one_line()
def serve(listen: ListenOption = None) -> None:
    """Run the service with your own Redis, keys, TLS and access policy.

    The service does not start with unsafe settings, and names all of them at once.
    [bold]check[/bold] shows the unsafe settings, and starts nothing. docs/settings.md has all
    settings, and docs/security.md explains why a setting is unsafe.
    """
    settings = load_settings(listen=listen)
    logs.configure(settings.log_level)
    checked = asyncio.run(preflight.check_everything(settings))
    if faults := preflight.refusals(checked, settings.allow_unsafe):
        raise SettingsError("\n".join(faults))
    for fault in (fault for check in checked for fault in check.faults):
        _log.warning("started_anyway", fault=fault.text)
    workers.run(
        settings,
        Mode(reflection=settings.reflection, verify=preflight.store_refusals),
        lambda _: None,
    )


@errors_in_one_line()
def check(
    listen: ListenOption = None, as_json: JsonOption = False, running: RunningOption = False
) -> None:
    """Check everything that [bold]serve[/bold] checks before it starts, and show what is wrong. The
    exit code is 1 if anything is wrong.

    Also checks that the ports are free. If the service runs, it uses the ports, so give
    [bold]--running[/bold]. The command starts nothing and changes nothing.
    """
    settings = load_settings(listen=listen)
    logs.configure("error")
    checked = asyncio.run(preflight.check_everything(settings))
    if not running:
        checked.append(preflight.check_ports(settings))
    rows = [row for one in checked for row in _rows(one, settings.allow_unsafe)]
    if as_json:
        for row in rows:
            show_json(row)
    else:
        table = Table("", "", "", box=None, pad_edge=False, show_header=False)
        for row in rows:
            table.add_row(row["check"], row["result"], Text(row["text"]))
        show(table)
    if any(row["result"] == "WRONG" for row in rows):
        raise typer.Exit(FAILED)


def _rows(checked: preflight.Checked, allowed: frozenset[Unsafe]) -> Iterator[dict[str, str]]:
    """Yields a row for each fault of a check. If there are no faults, yields one row that says what
    the check found.
    """
    if not checked.faults:
        yield {"check": checked.title, "result": "ok", "text": checked.found}
    for fault in checked.faults:
        if fault.unsafe in allowed:
            yield {"check": checked.title, "result": "allowed", "text": fault.text}
        else:
            result = "low" if fault.harmless else "WRONG"
            yield {"check": checked.title, "result": result, "text": preflight.text_of(fault)}
