"""Owns the command line. Commands start the service, check the service's health, manage its keys,
show its events, and more. The other rooms do the work of the commands.

Exit codes: 0 means success, 1 means that the answer is no or that the command failed, 2 means wrong
usage or settings.
"""

from __future__ import annotations

import os

# gRPC reads this variable when gRPC is imported. Without the variable, gRPC writes a line into the
# log for each failed handshake of an unknown client, and the line is not JSON.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import gc
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

import typer

from session_authority import __version__
from session_authority.cli.terminal import Commands, out

__all__ = ["app", "main"]

# Maps each command to its module, and to its name in this module. If the first argument is a
# command, only the module of this command is imported. To import all modules takes longer than most
# commands.
COMMANDS = {
    "dev": ("dev", "dev"),
    "serve": ("serve", "serve"),
    "check": ("serve", "check"),
    "health": ("health", "health"),
    "demo": ("demo", "demo"),
    "callers": ("callers", "app"),
    "redis-acl": ("redis", "redis_acl"),
    "devices": ("devices", "app"),
    "events": ("events", "app"),
    "gateway": ("gateway", "gateway"),
    "inspect": ("inspection", "inspect"),
    "keys": ("keys", "app"),
    "relay": ("relay", "app"),
    "restored": ("restored", "restored"),
    "sessions": ("sessions", "app"),
}
# To complete a command line, a shell runs this program with this variable set. The program must
# then import all commands.
_COMPLETION = "_SESSION_AUTHORITY_COMPLETE"

app: typer.Typer
"""The command line with all commands."""


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    return command_line(COMMANDS)


def command_line(names: Iterable[str]) -> typer.Typer:
    """Returns the command line with the commands of these names, and the command `version`."""
    line = typer.Typer(
        name="session-authority",
        cls=Commands,
        help=(
            "The service that other services ask whether a user's session on a device is still"
            " good.\n\nStart with [bold]dev[/bold], then let [bold]demo[/bold] play a session's"
            " life. Settings are SESSION_AUTHORITY_* variables, or are in the TOML file that"
            " SESSION_AUTHORITY_CONFIG names; see docs/settings.md.\n\nExit codes: 0 means"
            " success, 1 means that the answer is no or that the command failed, 2 means wrong"
            " usage or settings."
        ),
        rich_markup_mode="rich",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    for name in names:
        module, member = COMMANDS[name]
        command = getattr(import_module(f"{__name__}.{module}"), member)
        if isinstance(command, typer.Typer):
            line.add_typer(command, name=name)
        else:
            line.command(name)(command)
    line.command()(version)
    line.callback()(_options)
    return line


def version() -> None:
    """Print the version."""
    out.print(__version__)


def _version(given: bool) -> None:
    if given:
        version()
        raise typer.Exit


def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command `session-authority`."""
    # The garbage collector is off during the imports, because imported modules stay in memory. A
    # search for garbage in these modules would take a tenth of the time of the imports.
    gc.disable()
    try:
        line = command_line(_wanted(sys.argv[1:]))
        gc.freeze()
    finally:
        gc.enable()
    line()


def _wanted(arguments: list[str]) -> Iterable[str]:
    """Returns the commands whose modules must be imported for these arguments. If the first
    argument names no command, or if a shell completes the command line, returns all commands.
    """
    first = arguments[0] if arguments and _COMPLETION not in os.environ else ""
    if first in {"version", "--version"}:
        return ()
    return (first,) if first in COMMANDS else COMMANDS
