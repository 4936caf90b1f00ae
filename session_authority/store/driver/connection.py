"""Makes the redis-py client for a URL. The URL names a standalone server, a Sentinel group or a
cluster.

The client does not send a command again after a connection error or a timeout, because the server
may have run the command already. The client uses the protocol RESP2, because with RESP3 the driver
does not check for replies that are left over from an earlier command. The service does not cancel a
command before its reply has arrived (see `shielding`), so no connection returns to its pool while a
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
    """Raised if a Redis URL can't be used. The message never contains the URL, because a URL may
    contain a password.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """The timeouts of a client for connecting and for one reply, and its limit of connections. In a
    cluster, the limit of connections applies to each node separately.
    """

    connect_timeout: timedelta = timedelta(milliseconds=500)
    reply_timeout: timedelta = timedelta(seconds=1)
    max_connections: int = 64


def connect(url: str, limits: Limits) -> RedisClient:
    """Makes a client for `redis://`, `rediss://`, `unix://`, `redis+sentinel://h1,h2/name` or
    `redis+cluster://h1,h2`.

    With `rediss` in place of `redis`, as in `rediss+cluster://h1`, all connections use TLS. This
    function opens no connection. Raises BadRedisUrl if the URL can't be used.
    """
    form = _FORM.fullmatch(url)
    if form is None:
        raise BadRedisUrl(_WRONG_START)
    hosts = form["hosts"]
    try:
        # The word "host" takes the place of the hosts here, because `urlsplit` supports only one
        # host. For example, `urlsplit` refuses several hosts if one of them is in brackets.
        parts = urlsplit(
            f"{form['scheme']}://{form['user']}{'host' if hosts else ''}{form['rest']}"
        )
        query = dict(parse_qsl(parts.query, strict_parsing=True) if parts.query else [])
    except ValueError:
        raise BadRedisUrl("is not a URL") from None
    # If a password is not escaped, a part of the password may be parsed as path, options or
    # fragment. A fragment, or an @ after the hosts, is a sign of a password that is not escaped.
    if parts.fragment or "@" in parts.path + parts.query:
        raise BadRedisUrl(
            "must write /, ?, # and @ in a user name, password or path as %2F, %3F, %23 and %40"
        )
    scheme = parts.scheme.replace("rediss", "redis", 1)
    tls = parts.scheme.startswith("rediss")
    common: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        # With `driver_info`, the driver would send the command CLIENT SETINFO, which some servers
        # do not permit.
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
            # The error shows an unknown name only if the name has the form of an option. Any other
            # name may be a part of a password with a ? that was not escaped.
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
    """Returns two values: True if the URL requires TLS, and the list of the hosts in the URL. For
    the URL of a unix socket, the list of hosts is empty. Raises BadRedisUrl if the URL can't be
    used.
    """
    connect(url, Limits())
    form = _FORM.fullmatch(url)
    assert form is not None
    scheme = form["scheme"].lower()
    hosts = [] if scheme == "unix" else [host for host, _ in _hosts(form["hosts"], "redis")]
    return scheme.startswith("rediss"), hosts


def hosts_led_to_in_plain(client: RedisClient) -> list[str]:
    """Returns the hosts of the primaries that the client learned from Sentinels or from the nodes
    of a cluster. Returns an empty list if the client uses TLS or has a standalone server.
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
    """Returns the hosts and ports in a text like `h1:p1,h2,[::1]:p3`. A host without a port gets
    the default port of the scheme. Raises BadRedisUrl if a host or a port is not valid, or if there
    are more than `most` hosts.
    """
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
