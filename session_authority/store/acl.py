"""Lists the permissions that the service and its relay need in Redis, as rules of a Redis user.

A Redis user with these rules can read and change sessions. The user can't flush Redis, list keys,
use the command CONFIG, or use a key outside the service's prefix. The user can run INFO, which
shows a part of the configuration. The rules work with Redis from 6.2 and Valkey from 7.2:
standalone, behind Sentinels, and as a cluster.
"""

from __future__ import annotations

from session_authority.store.driver.sentinels import SWITCH_CHANNEL
from session_authority.store.key_names import KeyNames

_READS = "get hget hgetall hrandfield xinfo|groups xinfo|stream xlen xrange xrevrange"
_WRITES = "del eval evalsha hset set wait xdel xgroup|create"
# The commands that the Lua scripts run besides the commands above. Redis checks the commands of a
# script against the permissions of the user that runs the script.
_IN_SCRIPTS = (
    "exists hdel hlen hvals pexpire pttl publish xack xadd xreadgroup xtrim zadd zcard zrem"
    " zremrangebyscore time"
)
_NEWS = "ping subscribe"
_SERVER = "info"
# The commands that redis-py sends by itself, except AUTH, which needs no permission. redis-py sends
# `select` if the URL names a database. redis-py sends the other commands of this list only to a
# cluster.
_DRIVER = "select asking cluster|slots command"


def acl_rules(prefix: str) -> tuple[str, ...]:
    """Returns the rules of the Redis user for ACL SETUSER or an ACL file, without the password. The
    rules allow only keys whose names begin with `prefix` and a colon.
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
    """Returns the rules of the user with which the service connects to Sentinels, without the
    password. Only Sentinels that have ACL users need these rules.
    """
    commands = ("+sentinel|masters", *(f"+{command}" for command in _NEWS.split()))
    return ("on", "resetkeys", "resetchannels", f"&{SWITCH_CHANNEL}", "-@all", *commands)
