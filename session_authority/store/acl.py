"""Lists the permissions that the service and its relay need in Redis, as rules of a Redis user.

This module is the only list of their commands. A user with these rules reads and changes sessions.
Such a user can't flush Redis, list keys, use the command CONFIG, or use a key outside the prefix.
The user can read INFO, which shows a part of the configuration. The rules work with Redis from 6.2
and Valkey from 7.2: standalone, behind Sentinels, and as a cluster.
"""

from __future__ import annotations

from session_authority.store.driver.sentinels import SWITCH_CHANNEL
from session_authority.store.key_names import KeyNames

_READS = "get hget hgetall hrandfield xinfo|groups xinfo|stream xlen xrange xrevrange"
_WRITES = "del eval evalsha hset set wait xdel xgroup|create"
# A script has only the permissions of the user that runs it.
_IN_SCRIPTS = (
    "exists hdel hlen hvals pexpire pttl publish xack xadd xreadgroup xtrim zadd zcard zrem"
    " zremrangebyscore time"
)
_NEWS = "ping subscribe"
_SERVER = "info"
# The commands that the driver sends by itself. AUTH needs no permission. `select` is for a URL that
# names a database. The other commands are for a cluster.
_DRIVER = "select asking cluster|slots command"


def acl_rules(prefix: str) -> tuple[str, ...]:
    """Returns the rules for ACL SETUSER or an ACL file, without the password. They allow only keys
    with the prefix.
    """
    commands = " ".join((_READS, _WRITES, _IN_SCRIPTS, _NEWS, _SERVER, _DRIVER)).split()
    return (
        "on",
        "resetkeys",
        f"~{prefix}:*",
        "resetchannels",
        f"&{KeyNames(prefix).wake_channel}",
        "-@all",
        *(f"+{command}" for command in commands),
    )


def sentinel_acl_rules() -> tuple[str, ...]:
    """Returns the rules for Sentinels with their own users, without the password."""
    commands = ("+sentinel|masters", *(f"+{command}" for command in _NEWS.split()))
    return ("on", "resetkeys", "resetchannels", f"&{SWITCH_CHANNEL}", "-@all", *commands)
