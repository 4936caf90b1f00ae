"""Owns what a person sees of a command: what it prints, and how it fails."""

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

# The first words of the parser's messages that repeat an argument.
_REPEATING = ("Got unexpected extra argument(s)", "No such command", "No such option")
_HARMLESS = re.compile(r"No such (command '[a-z][a-z-]{,19}'|option: --?[a-z][a-z-]{,19})([ .]|$)")

# Nearly every line of a table is shorter than this.
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
    """Ends the command with this exit code, after it has printed each line of the text."""
    for line in text.splitlines() or [text]:
        err.print(f"session-authority: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def existing_file(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The value of an option that names a file. If there is no such file, the command fails. The
    error does not repeat the value, as a user may have given the secret itself in place of a file.
    """
    if path is not None and not os.path.exists(path):  # False for text that can't be a file's name
        fail(f"{option.opts[0]}: there is no such file", WRONG_USAGE)
    return path


class Commands(TyperGroup):
    """Commands whose errors do not repeat an unknown argument, as it may be a secret
    (`--token-file Bearer abc`). Words that can't be a secret are repeated. The help names no Python
    types.
    """

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Reads the arguments before the command's name. Raises a usage error."""
        with _nothing_repeated():
            return super().make_context(*given, **more)

    def get_params(self, ctx: Any) -> Any:
        """The options of the group itself."""
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, if there is one."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _without_types([*command.params, command.get_help_option(ctx)])
        return command

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that the arguments name. Raises a usage error."""
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
    """The same parameters, without types in their help. Else the help would show `<bool>` behind
    each flag, and `<str>` behind each argument.
    """
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: None
    return params


# The errors that a person can mend, by their modules. The modules are not imported here: a
# command that has not imported a module can't have raised its errors.
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
    """Decorates a command: an error that a person can mend ends it without a traceback."""
    try:
        yield
    except Exception as error:
        for module, name in MENDABLE.items():
            if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
                fail(str(error), WRONG_USAGE if name == _OF_SETTINGS else FAILED)
        raise


def show(table: Table, *, whole_lines: bool = False) -> None:
    """Prints a table. Its lines are not wrapped if a program reads them. With `whole_lines` they
    are not wrapped on a terminal, either, so that a user can copy an ID.
    """
    if out.is_terminal and not whole_lines:
        out.print(table)
    else:
        Console(highlight=False, emoji=False, width=_WHOLE_LINE_COLUMNS).print(
            table, soft_wrap=True
        )


def show_json(row: Mapping[str, object]) -> None:
    """Prints one line of JSON. The line is ASCII, and moments have the form of RFC 3339."""
    line = json.dumps(row, default=_rfc3339, separators=(",", ":"))
    out.print(line, markup=False, soft_wrap=True)


def _rfc3339(value: object) -> str:
    assert isinstance(value, datetime)
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(moment: datetime | None) -> str:
    """A moment, for tables."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
