"""What the service and its relay may do in Redis: the rules of a user that may do that and nothing
else.

The one place that lists their commands. A user with them reads and changes sessions, but can't
flush, list keys, see or change how the server is set up, or reach what is not below the prefix.
Good for Redis from 6.2 and Valkey from 7.2, standalone, behind Sentinels or a Cluster.
"""

from __future__ import annotations

from session_authority.store.driver.sentinels import SWITCH_CHANNEL
from session_authority.store.key_names import KeyNames

_READS = "get hget hgetall hrandfield xinfo|groups xinfo|stream xlen xrange xrevrange"
_WRITES = "del eval evalsha hset set wait xdel xgroup|create"
# A script may do no more than who runs it.
_IN_SCRIPTS = (
    "exists hdel hlen hvals pexpire pttl publish xack xadd xreadgroup xtrim zadd zcard zrem"
    " zremrangebyscore time"
)
_NEWS = "ping subscribe"
_SERVER = "info"
# What the driver sends by itself; AUTH is everybody's. `select` where a URL names a database, the
# rest to a Cluster.
_DRIVER = "select asking cluster|slots command"


def acl_rules(prefix: str) -> tuple[str, ...]:
    """The rules for ACL SETUSER or an ACL file, all but the password, for keys below a prefix."""
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
    """The rules for the Sentinels, if they have users of their own; all but the password."""
    commands = ("+sentinel|masters", *(f"+{command}" for command in _NEWS.split()))
    return ("on", "resetkeys", "resetchannels", f"&{SWITCH_CHANNEL}", "-@all", *commands)
