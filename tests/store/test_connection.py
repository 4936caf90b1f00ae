"""From a URL to a client: which URLs are accepted, how the others are refused, and which settings
really apply.
"""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import (
    BadRedisUrl,
    KeyNames,
    Limits,
    RedisClient,
    SessionStore,
    connect,
)
from session_authority.store.driver.cluster import Cluster
from tests.support.backends import PATIENT, redis_server_with_tls
from tests.support.ca import CA

LIMITS = Limits(
    connect_timeout=timedelta(milliseconds=123),
    reply_timeout=timedelta(milliseconds=456),
    max_connections=7,
)

ACCEPTED: dict[str, dict[str, Any]] = {
    "redis://h": {"host": "h", "port": 6379, "db": 0},
    "redis://h:7000": {"host": "h", "port": 7000},
    "redis://h:7000/": {"db": 0},
    "redis://h/3": {"db": 3},
    "redis://h?db=4": {"db": 4},
    "redis://[::1]:7000/1": {"host": "::1", "port": 7000, "db": 1},
    "redis://:p%40ss%2F@h": {"username": None, "password": "p@ss/"},
    "redis://me@h": {"username": "me", "password": None},
    "redis://me:%E2%82%AC@h": {"username": "me", "password": "€"},
    "rediss://h": {"host": "h", "port": 6379},
    "rediss://me:pw@h:7000/2": {"port": 7000, "db": 2, "username": "me", "password": "pw"},
    "unix:///run/valkey.sock": {"path": "/run/valkey.sock", "db": 0},
    "unix:///a%20folder/v%40lkey.sock?db=2": {"path": "/a folder/v@lkey.sock", "db": 2},
    "unix://me:pw@/run/valkey.sock": {
        "path": "/run/valkey.sock",
        "username": "me",
        "password": "pw",
    },
    "redis+sentinel://h1,h2:7000/main": {"db": 0},
    "redis+sentinel://me:pw@h1/main/5": {"db": 5, "username": "me", "password": "pw"},
    "redis+sentinel://h1/main?sentinel_username=w&sentinel_password=s": {
        "username": None,
        "password": None,
    },
    "rediss+sentinel://h1/main": {},
    "redis+cluster://h1,h2:7000,[::1]:7001": {"host": "h1", "port": 6379},
    "redis+cluster://me:pw@h1/": {"username": "me", "password": "pw"},
    "rediss+cluster://h1": {"host": "h1"},
}

REFUSED = {
    "": "must start with redis://",
    "h:6379": "must start with redis://",
    "http://h": "must start with redis://",
    "redis+unix:///s": "must start with redis://",
    "rediss+unix:///s": "must start with redis://",
    "redisx://h": "must start with redis://",
    "redis://": "must name a host",
    "redis://:pw@": "must name a host",
    "redis:///1": "must name a host",
    "redis://[::1": "is not a URL",
    "redis://h:0x10": "has a port",
    "redis://h:70000": "has a port",
    "redis://h/one": "must name the database",
    "redis://h/-1": "must name the database",
    "redis://h/1/2": "must name the database",
    "redis://h?db=x": "must name the database",
    "redis://h1,h2": "must name one host",
    "redis://h?x": "is not a URL",
    "redis://h?retries=3": "unknown option 'retries'; this kind of URL takes db",
    "redis://default:Pass?w0rd=1": "unknown option; this kind of URL takes db",
    "redis://h?ssl_ca_certs=/ca.pem": "unknown option 'ssl_ca_certs'",
    "redis://h#1": "must write /, ?, # and @",
    "redis://:pass/word@h": "must write /, ?, # and @",
    "redis://:pass?word=1@h": "must write /, ?, # and @",
    "redis://:pass#word@h": "must write /, ?, # and @",
    "rediss://h?ssl_check_hostname=false": "takes db, ssl_ca_certs, ssl_certfile, ssl_keyfile",
    "rediss://h?ssl_cert_reqs=none": "unknown option 'ssl_cert_reqs'",
    "unix://": "must name a socket by its absolute path",
    "unix://run/valkey.sock": "must name a socket by its absolute path",
    "unix:///s?db=-1": "must name the database",
    "redis+sentinel://h1,h2": "must name the Sentinel group",
    "redis+sentinel:///main": "must name a host",
    "redis+sentinel://h1,,h2/main": "must name a host",
    "redis+sentinel://h1/main/x": "must name the database",
    "redis+sentinel://h1/main?db=1": "takes sentinel_username, sentinel_password",
    "redis+cluster://": "must name a host",
    "redis+cluster://h1/0": "a cluster has only database 0",
    "redis+cluster://h1?db=0": "unknown option 'db'; this kind of URL takes none",
}


def a_connection(client: RedisClient) -> Any:
    """A connection that the client would use, not yet connected."""
    if isinstance(client, Cluster):
        return client.startup_nodes[0].acquire_connection()
    return client.connection_pool.make_connection()


def connections(client: RedisClient) -> list[Any]:
    """One connection of each kind that the client would use."""
    made = [a_connection(client)]
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return made + [a_connection(sentinel) for sentinel in (manager.sentinels if manager else ())]


@pytest.mark.parametrize("url", ACCEPTED)
async def test_every_form_of_url_is_understood(url: str) -> None:
    connection = a_connection(connect(url, LIMITS))
    assert {name: getattr(connection, name) for name in ACCEPTED[url]} == ACCEPTED[url]


async def test_a_sentinel_url_names_the_sentinels_and_the_group() -> None:
    client = connect(
        "redis+sentinel://me:pw@h1,h2:7000,[::1]/ma%2Fin?sentinel_username=w&sentinel_password=s",
        LIMITS,
    )
    assert isinstance(client, Redis)
    pool: Any = client.connection_pool
    assert pool.service_name == "ma/in"
    assert pool.is_master
    watchers = [a_connection(sentinel) for sentinel in pool.sentinel_manager.sentinels]
    assert [(w.host, w.port, w.username, w.password) for w in watchers] == [
        ("h1", 26379, "w", "s"),
        ("h2", 7000, "w", "s"),
        ("::1", 26379, "w", "s"),
    ]


async def test_a_cluster_url_names_where_to_start() -> None:
    client = connect("redis+cluster://h1,h2:7000,[::1]:7001", LIMITS)
    assert isinstance(client, Cluster)
    assert [(node.host, node.port) for node in client.startup_nodes] == [
        ("h1", 6379),
        ("h2", 7000),
        ("::1", 7001),
    ]


@pytest.mark.parametrize("url", REFUSED)
def test_every_fault_of_a_url_is_named(url: str) -> None:
    with pytest.raises(BadRedisUrl) as caught:
        connect(url, LIMITS)
    assert REFUSED[url] in str(caught.value)


SECRET = "s3cr3t"


@pytest.mark.parametrize("url", [u for u in REFUSED if "://" in u and "@" not in u])
def test_no_message_contains_the_password(url: str) -> None:
    scheme, _, rest = url.partition("://")
    with pytest.raises(BadRedisUrl) as caught:
        connect(f"{scheme}://me:{SECRET}@{rest.rpartition('@')[2]}", LIMITS)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(
    st.text("ab/?#@:&=%[],;+ ", min_size=1, max_size=8),
    st.sampled_from(["", "s", "+sentinel", "+cluster"]),
)
def test_no_message_contains_a_password_that_is_not_escaped(noise: str, kind: str) -> None:
    half = len(noise) // 2
    try:
        connect(f"redis{kind}://me:{noise[:half]}{SECRET}{noise[half:]}{SECRET}@host/main", LIMITS)
    except BadRedisUrl as error:
        message = str(error)
    else:
        message = ""
    assert SECRET not in message


# ----- the driver's settings


@pytest.mark.parametrize("url", ACCEPTED)
async def test_the_driver_s_own_retries_are_off_on_every_connection(url: str) -> None:
    client = connect(url, LIMITS)
    for connection in connections(client):
        assert int(connection.protocol) == 2
        assert connection.retry.get_retries() == 0
        assert connection.socket_timeout == 0.456
        assert connection.socket_connect_timeout == 0.123
        assert not connection.retry_on_error
        assert not connection.health_check_interval
        if not isinstance(connection, UnixDomainSocketConnection):
            assert connection.socket_keepalive
    if isinstance(client, Cluster):
        assert client.retry.get_retries() == 0
        assert client.startup_nodes[0].max_connections == 7
        assert client.reinitialize_steps == 0
    else:
        assert client.connection_pool.max_connections == 7


@pytest.mark.parametrize("url", [u for u in ACCEPTED if u.startswith("rediss")])
async def test_tls_verifies_the_server(url: str) -> None:
    for connection in connections(
        connect(f"{url}?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem", LIMITS)
    ):
        assert isinstance(connection, SSLConnection)
        context = connection.ssl_context
        assert context.cert_reqs == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert (context.ca_certs, context.certfile, context.keyfile) == (
            "/ca.pem",
            "/c.pem",
            "/k.pem",
        )


@pytest.mark.parametrize("url", [u for u in ACCEPTED if u.startswith(("redis:", "redis+"))])
async def test_a_url_without_tls_uses_none(url: str) -> None:
    for connection in connections(connect(url, LIMITS)):
        assert isinstance(connection, Connection)
        assert not isinstance(connection, SSLConnection)


async def test_tls_works_only_with_the_right_certificates(tmp_path: Path) -> None:
    ca = CA(tmp_path)
    mine = ca.sign()
    with redis_server_with_tls(tmp_path, ca) as url:
        right = f"ssl_ca_certs={ca.file}&ssl_certfile={mine.certificate}&ssl_keyfile={mine.key}"
        for host, options, works in [
            ("127.0.0.1", right, True),
            ("localhost", right, False),  # A name that is not in the certificate.
            # Signed by no authority that the machine trusts.
            (
                "127.0.0.1",
                right.partition("&")[2],
                False,
            ),
            # The server requires a client certificate.
            ("127.0.0.1", right.partition("&")[0], False),
        ]:
            store = SessionStore(
                connect(f"{url.replace('127.0.0.1', host)}?{options}", PATIENT), KeyNames()
            )
            try:
                if works:
                    assert await store.session("ada", b"k" * 16) is None
                else:
                    with pytest.raises(StoreUnavailable):
                        await store.session("ada", b"k" * 16)
            finally:
                await store.close()
