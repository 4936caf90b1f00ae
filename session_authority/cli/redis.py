"""Implements `session-authority redis-acl`, which prints the permissions that the service and its
relay need in Redis.

This module also checks the URL of Redis for other commands.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from session_authority.cli.terminal import WRONG_USAGE, errors_in_one_line, fail, out
from session_authority.runtime.settings import Settings, SettingsError, load_settings
from session_authority.store import BadRedisUrl, Limits, connect
from session_authority.store.acl import acl_rules

# A name of these characters needs no quotes in a shell, in redis-cli or in an ACL file.
_USER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class AclFormat(StrEnum):
    """Says what is printed: a command for redis-cli, or a line for the server's ACL file."""

    SETUSER = "setuser"
    FILE = "file"


@errors_in_one_line()
def redis_acl(
    user: Annotated[
        str,
        typer.Option("--user", metavar="NAME", help="The Redis user that the service connects as."),
    ] = "session-authority",
    form: Annotated[
        AclFormat,
        typer.Option(
            "--format", help="A command for redis-cli, or a line for the server's ACL file."
        ),
    ] = AclFormat.SETUSER,
) -> None:
    """Print the Redis user that may do what the service and its relay need, and nothing else.

    Replace PASSWORD by a password. Write the name and the password into
    SESSION_AUTHORITY_REDIS_URL: redis://NAME:PASSWORD@host. The user may use only keys that begin
    with SESSION_AUTHORITY_REDIS_PREFIX. Create the user on each primary and each replica, and on
    each node of a cluster.
    """
    if _USER_NAME.fullmatch(user) is None:
        fail("--user: must be 1 to 64 letters, digits, '_', '.' or '-'", WRONG_USAGE)
    start = "ACL SETUSER" if form is AclFormat.SETUSER else "user"
    on, *rules = acl_rules(load_settings().redis_prefix)
    out.print(
        " ".join((start, user, on, "resetpass", ">PASSWORD", *rules)),
        markup=False,
        soft_wrap=True,
    )


def check_redis_url(settings: Settings) -> None:
    """Raises SettingsError if the Redis URL is malformed. Does not connect to Redis, and does
    nothing if no URL is set.
    """
    if settings.redis_url is not None:
        try:
            connect(settings.redis_url.get_secret_value(), Limits())
        except BadRedisUrl as error:
            raise SettingsError(f"SESSION_AUTHORITY_REDIS_URL: {error}") from None
