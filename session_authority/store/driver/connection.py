"""Makes a client of a standalone server, a Sentinel group or a cluster from a URL, and avoids the
driver's known faults.

The driver does not retry commands, because it can't know if a command whose reply was lost was
carried out. It uses RESP2, because its RESP3 skips the check for left-over replies. No command is
ever cancelled before its reply (see `shielding`). So no connection returns to its pool while a
reply is still to come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.sentinels import SentinelPool, Sentinels

RedisClient = Redis | Cluster

_FORM = re.compile(
    r"(?P<scheme>[A-Za-z+]+)://(?P<user>(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*)(?P<rest>.*)", re.DOTALL
)
_WRONG_START = (
    "must start with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (rediss+…"
    " for TLS)"
)
_DEFAULT_PORT = {"redis": 6379, "redis+cluster": 6379, "redis+sentinel": 26379}
_OPTION = re.compile(r"[a-z_]{1,32}", re.ASCII)
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class BadRedisUrl(ValueError):
    """The Redis URL can't be used. The message never contains the URL, because a URL may contain a
    password.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits for connecting and for replies, and the limit of connections (for each node
    of a cluster).
    """

    connect_timeout: timedelta = timedelta(milliseconds=500)
    reply_timeout: timedelta = timedelta(seconds=1)
    max_connections: int = 64


def connect(url: str, limits: Limits) -> RedisClient:
    """Makes a client for `redis://`, `rediss://`, `unix://`, `redis+sentinel://h1,h2/name` or
    `redis+cluster://h1,h2`.

    With an `s` (`rediss+cluster://`) all connections use TLS. This opens no connection yet. Raises
    BadRedisUrl.
    """
    form = _FORM.fullmatch(url)
    if form is None:
        raise BadRedisUrl(_WRONG_START)
    hosts = form["hosts"]
    try:
        # The standard library supports only one host in a URL. It refuses several hosts if one of
        # them is in brackets.
        parts = urlsplit(
            f"{form['scheme']}://{form['user']}{'host' if hosts else ''}{form['rest']}"
        )
        query = dict(parse_qsl(parts.query, strict_parsing=True) if parts.query else [])
    except ValueError:
        raise BadRedisUrl("is not a URL") from None
    # In these cases, most of a password may have been parsed as path, options or fragment.
    if parts.fragment or "@" in parts.path + parts.query:
        raise BadRedisUrl(
            "must write /, ?, # and @ in a user name, password or path as %2F, %3F, %23 and %40"
        )
    scheme = parts.scheme.replace("rediss", "redis", 1)
    tls = parts.scheme.startswith("rediss")
    common: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        # setting the driver's name needs a permission that some servers do not give
        "driver_info": None,
        "socket_timeout": limits.reply_timeout.total_seconds(),
        "socket_connect_timeout": limits.connect_timeout.total_seconds(),
        "socket_keepalive": True,
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }
    allowed = ["db"] if scheme in ("redis", "unix") else []
    allowed += _TLS_OPTIONS if tls else ()
    allowed += _SENTINEL_OPTIONS if scheme == "redis+sentinel" else ()
    for name in query:
        if name not in allowed:
            # If a password contains a ? that was not escaped, the name may be part of the password.
            # So it is shown only if it looks like an option.
            shown = f" {name!r}" if _OPTION.fullmatch(name) else ""
            raise BadRedisUrl(
                f"has an unknown option{shown}; this kind of URL takes"
                f" {', '.join(allowed) or 'none'}"
            )
    secure = {name: query[name] for name in _TLS_OPTIONS if name in query}
    if scheme == "unix" and not tls:
        if not parts.path or hosts:
            raise BadRedisUrl("must name a socket by its absolute path: unix:///path/to/socket")
        del common["socket_keepalive"]
        return Redis.from_pool(
            ConnectionPool(
                connection_class=UnixDomainSocketConnection,
                path=unquote(parts.path),
                db=_database(query.get("db", "0")),
                max_connections=limits.max_connections,
                **common,
            )
        )
    if scheme == "redis":
        [(host, port)] = _hosts(hosts, scheme, most=1)
        if tls:
            common |= {"connection_class": SSLConnection, **secure}
        return Redis.from_pool(
            ConnectionPool(
                host=host,
                port=port,
                db=_database(query.get("db") or parts.path.strip("/") or "0"),
                max_connections=limits.max_connections,
                **common,
            )
        )
    if scheme == "redis+sentinel":
        return _sentinel(hosts, parts.path, query, common, limits, tls, secure)
    if scheme == "redis+cluster":
        if parts.path.strip("/"):
            raise BadRedisUrl("must have no path: a cluster has only database 0")
        return Cluster(
            _hosts(hosts, scheme),
            max_connections=limits.max_connections,
            ssl=tls,
            **common,
            **secure,
        )
    raise BadRedisUrl(_WRONG_START)


def hosts_of(url: str) -> tuple[bool, list[str]]:
    """Returns two values: True if the URL asks for TLS, and the hosts that it names. A URL of a
    unix socket names no hosts. Raises BadRedisUrl.
    """
    connect(url, Limits())
    form = _FORM.fullmatch(url)
    assert form is not None
    scheme = form["scheme"].lower()
    hosts = [] if scheme == "unix" else [host for host, _ in _hosts(form["hosts"], "redis")]
    return scheme.startswith("rediss"), hosts


def hosts_led_to_in_plain(client: RedisClient) -> list[str]:
    """Returns the hosts of primaries that Sentinels or the nodes of a cluster named to the client,
    if the connections to them have no TLS.
    """
    if isinstance(client, Cluster):
        tls = issubclass(client.connection_kwargs["connection_class"], SSLConnection)
        return [] if tls else [str(node.host) for node in client.get_primaries()]
    pool = client.connection_pool
    if not isinstance(pool, SentinelPool) or issubclass(pool.connection_class, SSLConnection):
        return []
    return [pool.master_address[0]] if pool.master_address else []


def _sentinel(
    hosts: str,
    path: str,
    query: dict[str, str],
    common: dict[str, Any],
    limits: Limits,
    tls: bool,
    secure: dict[str, str],
) -> Redis:
    name, _, database = path.strip("/").partition("/")
    if not name:
        raise BadRedisUrl("must name the Sentinel group: redis+sentinel://host1,host2/name")
    watchers = common | {
        "username": query.get("sentinel_username"),
        "password": query.get("sentinel_password"),
        "ssl": tls,
        **secure,
    }
    return Redis.from_pool(
        SentinelPool(
            unquote(name),
            Sentinels(_hosts(hosts, "redis+sentinel"), **watchers),
            db=_database(database or "0"),
            max_connections=limits.max_connections,
            ssl=tls,
            **common,
            **secure,
        )
    )


def _database(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise BadRedisUrl("must name the database by its number")
    return int(text)


def _hosts(hosts: str, scheme: str, most: int = 64) -> list[tuple[str, int]]:
    """Parses the hosts and ports of `h1:p1,h2,[::1]:p3`."""
    found = []
    for text in hosts.split(","):
        try:
            one = urlsplit(f"//{text}")
        except ValueError:
            raise BadRedisUrl("is not a URL") from None
        try:
            host, port = one.hostname, one.port or _DEFAULT_PORT[scheme]
        except ValueError:
            raise BadRedisUrl("has a port that is not a number from 1 to 65535") from None
        if not host:
            raise BadRedisUrl("must name a host")
        found.append((host, port))
    if len(found) > most:
        raise BadRedisUrl(
            "must name one host; use redis+sentinel:// or redis+cluster:// for several"
        )
    return found
