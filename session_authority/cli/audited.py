"""Writes the acts of commands into the audit log, if the setting AUDIT_LOG names a file.

With the value `stderr`, a command writes no line: the person who gave the command reads its
standard error.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import typer

from session_authority.cli.terminal import err
from session_authority.runtime.audit_log import STDERR, AuditLog, AuditLogError
from session_authority.runtime.settings import SettingsError, load_settings

P = ParamSpec("P")
R = TypeVar("R")
# The names of arguments in the log. The log uses the same names for the fields of requests.
_NAMES = {"user": "user_id", "kid": "key_ids", "kids": "key_ids", "name": "of_caller"}
_NAMES |= {"token": "token_id", "promote_now": "promote", "everything": "all"}


# The facts for the audit log about the command that runs.
_fields: ContextVar[dict[str, Any]] = ContextVar("audited", default={})  # noqa: B039 - replaced


def audit(**fields: Any) -> None:
    """Adds fields to the command's line in the audit log, such as the ID of a new key. `outcome`
    replaces the outcome if the exit code only reports a finding.
    """
    _fields.get().update(fields)


def audited(action: str, *told: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a command: its outcome goes to the audit log, with the arguments named in `told`. A
    log that can't be written causes a warning, and does not stop the command.
    """

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature(command).bind(*args, **kwargs)
            given.apply_defaults()
            fields = {_NAMES.get(name, name): _text(given.arguments[name]) for name in told}
            outcome, token = "FAILED", _fields.set(fields)
            try:
                result = command(*args, **kwargs)
                outcome = "OK"
            except typer.Exit as end:
                fields["exit_code"] = end.exit_code
                raise
            finally:
                _fields.reset(token)
                _note(action, outcome, fields)
            return result

        return run

    return decorate


def _note(action: str, outcome: str, fields: dict[str, Any]) -> None:
    try:
        target = load_settings().audit_log
        if target is None or str(target) == STDERR:
            return
        log = AuditLog(str(target))
    except (SettingsError, AuditLogError) as error:
        text = str(error).splitlines()[0]
        err.print(f"The audit log has no line of this: {text}", markup=False, soft_wrap=True)
        return
    try:
        outcome = fields.pop("outcome", outcome)
        log.note(action, outcome, {**_who(), **fields}, limited=False)
    finally:
        log.close()


def _who() -> dict[str, str]:
    """The person who gave the command, and the address."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # as in a container
        name = str(user)
    came_from = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    return {
        "caller": f"user:{name}",
        "sudo_user": os.environ.get("SUDO_USER", ""),
        "peer": f"ssh:{came_from}" if came_from else "local",
    }


def _text(value: Any) -> Any:
    """The value in a form for JSON. None for a flag that is not set."""
    if isinstance(value, Enum):
        return value.value
    return value or None
