"""Owns what commands print: results, tables, JSON and errors."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.table import Table

# Exit codes.
FAILED = 1
WRONG_USAGE = 2

# The first words of the argument parser's errors that repeat an unknown argument, command or
# option. An error about a wrong value of a known option may also repeat the value, and is shown
# unchanged.
_REPEATING = ("Got unexpected extra argument(s)", "No such command", "No such option")
_HARMLESS = re.compile(r"No such (command '[a-z][a-z-]{,19}'|option: --?[a-z][a-z-]{,19})([ .]|$)")

# The width of a table whose lines must not be wrapped. Nearly every line is shorter than this
# width.
_WHOLE_LINE_COLUMNS = 1000

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

ListenOption = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="HOST:PORT", help="Where to listen.", show_default="127.0.0.1:50051"
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Prints each line of the text to standard error, and ends the command with this exit code."""
    for line in text.splitlines() or [text]:
        err.print(f"session-authority: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def existing_file(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Returns the value of an option that names a file. If the file does not exist, the command
    fails. The error does not repeat the value, because a user may have given a secret in place of
    the name of a file.
    """
    if path is not None and not os.path.exists(path):  # False for text that can't be a file's name
        fail(f"{option.opts[0]}: there is no such file", WRONG_USAGE)
    return path


class Commands(TyperGroup):
    """A group of commands. A usage error does not repeat an unknown argument, because the argument
    may be a secret (`--token-file Bearer abc`). But the error repeats an unknown command or option
    of at most 20 lower-case letters and hyphens, because such a short word is hardly a secret. The
    help names no Python types.
    """

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Parses the options before the command's name. Raises a usage error if an option is
        invalid.
        """
        with _nothing_repeated():
            return super().make_context(*given, **more)

    def get_params(self, ctx: Any) -> Any:
        """Returns the options of the group itself."""
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns the command of this name, or None if there is no such command."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _without_types([*command.params, command.get_help_option(ctx)])
        return command

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that the arguments name. Raises a usage error if the command gets a
        wrong argument or option.
        """
        with _nothing_repeated():
            return super().invoke(ctx)


@contextmanager
def _nothing_repeated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        told = str(getattr(error, "message", ""))
        for known in _REPEATING:
            if told.startswith(known) and not _HARMLESS.match(told):
                error.message = f"{known}; see --help"  # type: ignore[attr-defined]
        raise


def _without_types(params: Any) -> Any:
    """Changes these parameters so that the help does not show their types, and returns them.
    Without the change, the help would show `<bool>` after each flag, and `<str>` after each
    argument.
    """
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: None
    return params


# Maps modules to their error classes, for errors that a user can correct. The modules are not
# imported here. If a command has not imported a module, the command can't raise the error of this
# module.
MENDABLE = {
    "session_authority.access": "AccessError",
    "session_authority.geoip": "GeoipError",
    "session_authority.processes.health": "UnsafeStore",
    "session_authority.processes.listening": "CannotListen",
    "session_authority.processes.workers": "WorkersFailed",
    "session_authority.runtime.audit_log": "AuditLogError",
    "session_authority.runtime.settings": "SettingsError",
    "session_authority.runtime.tracing": "TracingError",
    "session_authority.runtime.tls": "CertificateError",
    "session_authority.store.embedded": "EmbeddedUnavailable",
    "session_authority.tokens": "KeyringError",
}
_OF_SETTINGS = "SettingsError"


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Decorates a command. If the command raises an error that MENDABLE lists, the command prints
    the message without a traceback, and fails.
    """
    try:
        yield
    except Exception as error:
        for module, name in MENDABLE.items():
            if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
                fail(str(error), WRONG_USAGE if name == _OF_SETTINGS else FAILED)
        raise


def show(table: Table, *, whole_lines: bool = False) -> None:
    """Prints a table. A terminal shows long lines wrapped, unless `whole_lines` is True. With
    `whole_lines`, a user can copy an ID as a whole. If the output is not a terminal, no line is
    wrapped.
    """
    if out.is_terminal and not whole_lines:
        out.print(table)
    else:
        Console(highlight=False, emoji=False, width=_WHOLE_LINE_COLUMNS).print(
            table, soft_wrap=True
        )


def show_json(row: Mapping[str, object]) -> None:
    """Prints one line of JSON. The line is ASCII. Moments have the form of RFC 3339."""
    line = json.dumps(row, default=_rfc3339, separators=(",", ":"))
    out.print(line, markup=False, soft_wrap=True)


def _rfc3339(value: object) -> str:
    assert isinstance(value, datetime)
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(moment: datetime | None) -> str:
    """Returns a moment in a form for tables, or `-` for None. The moment must be in UTC."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
