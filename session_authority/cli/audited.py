"""Writes a line into the audit log for each command that has the decorator `audited`, if the
setting AUDIT_LOG names a file.

If AUDIT_LOG is `stderr`, commands write no audit lines, because a command's standard error goes to
the person who runs the command.
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
# Maps the name of a command's argument to its name in the audit log. The audit lines of requests
# use the same names.
_NAMES = {"user": "user_id", "kid": "key_ids", "kids": "key_ids", "name": "of_caller"}
_NAMES |= {"token": "token_id", "promote_now": "promote", "everything": "all"}


# The fields for the audit line of the command that runs.
_fields: ContextVar[dict[str, Any]] = ContextVar("audited", default={})  # noqa: B039 - replaced


def audit(**fields: Any) -> None:
    """Adds fields to the audit line of the command that runs, such as the ID of a new key. The
    field `outcome` replaces the outcome in the line. A command gives this field if it succeeds, but
    exits with 1 to report what it found.
    """
    _fields.get().update(fields)


def audited(action: str, *told: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a command, so that its outcome is written into the audit log, with the arguments
    that `told` names. If the log can't be written, the command still runs, and prints a warning.
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
    """Returns fields that name the person who runs the command, and the address from which the
    person is logged in.
    """
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # for example in a container
        name = str(user)
    came_from = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    return {
        "caller": f"user:{name}",
        "sudo_user": os.environ.get("SUDO_USER", ""),
        "peer": f"ssh:{came_from}" if came_from else "local",
    }


def _text(value: Any) -> Any:
    """Returns the value of an argument in a form for JSON. Returns None for an empty value, such as
    a flag that is not set.
    """
    if isinstance(value, Enum):
        return value.value
    return value or None
