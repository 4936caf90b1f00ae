"""Configures the connection to the service: its addresses, TLS, bearer tokens, retries and
keepalive. The client for asyncio and the client for threads use this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import grpc

from session_authority_client.errors import Unavailable

SERVICE = "session_authority.v1.SessionAuthorityService"
DEFAULT_TIMEOUT = timedelta(milliseconds=300)
# All methods of the service except WatchEvents. gRPC does not repeat a watch that fails. The code
# that reads the watch must start a new watch.
METHODS = (
    "IssueDevice",
    "RenewSession",
    "UpdateSession",
    "ValidateSession",
    "BatchValidateSessions",
    "CheckSessions",
    "ListDevices",
    "UpdateDevice",
    "RevokeDevice",
    "RevokeAll",
    "GetSigningKeys",
)
# Tells gRPC to which address to send a call, and when to repeat a call that was refused or lost. It
# is safe to repeat a call of any method in METHODS. IssueDevice always has a `request_id`. Two
# renewals of the same token count as one renewal. If a call sets the same claims again, nothing
# changes.
_SERVICE_CONFIG = {
    # gRPC sends calls to all addresses in turn. If more than 90% of the calls to an address failed
    # within two seconds, gRPC sends no calls to this address for five seconds. A server that hangs
    # fails all its calls. When half of the addresses or more are excluded, gRPC excludes no further
    # address. So gRPC may exclude two of three addresses, but never excludes the only address.
    #
    # gRPC excludes an address only if at least two addresses got two calls each within the interval
    # of two seconds. In a shorter interval, a caller that makes two calls a second would never make
    # enough calls.
    "loadBalancingConfig": [
        {
            "outlier_detection_experimental": {
                "interval": "2s",
                "baseEjectionTime": "5s",
                "maxEjectionTime": "5s",
                "maxEjectionPercent": 50,
                "failurePercentageEjection": {
                    "threshold": 90,
                    "enforcementPercentage": 100,
                    "minimumHosts": 2,
                    "requestVolume": 2,
                },
                "childPolicy": [{"round_robin": {}}],
            }
        }
    ],
    "methodConfig": [
        {
            "name": [{"service": SERVICE, "method": method} for method in METHODS],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # After ten failures without a success, gRPC makes no retries, because retries could keep an
    # overloaded service down.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
}
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    # The service allows one ping every 10 seconds.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # While data flows, gRPC also sends pings of its own. A server that hangs does not answer pings.
    # After this time without an answer, gRPC closes the connection, and sends no calls to the
    # server until a new connection is made.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # With short pauses between its attempts to connect, a client soon reaches a service again that
    # was down for a long time.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # The timeout of an attempt to connect, with all handshakes. A call waits for the attempt until
    # the call's own deadline. The kernel sends a lost SYN again after 1 and 3 seconds. If the
    # service has come back after 5 seconds, a new attempt succeeds sooner than the old attempt.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Without this option, all clients in a process that have the same target would share one
    # connection. All clients with the same target would also share the number of calls that the
    # service allows on one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # Calls between services must not go through a proxy for web traffic.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of a TLS connection to the service, as PEM. If `root_certificates` is None,
    the service's certificate is checked against the CAs that gRPC trusts by default.

    With `certificate_chain` and `private_key`, this caller also proves its own identity (mutual
    TLS). Raises TypeError for a value that is not bytes. Raises ValueError if only one of
    `certificate_chain` and `private_key` is given.
    """

    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("root_certificates", "certificate_chain", "private_key"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bytes):
                raise TypeError(f"{name}: PEM in bytes, not {type(value).__name__}")
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("certificate_chain and private_key: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns the credentials for a gRPC channel."""
        return grpc.ssl_channel_credentials(
            self.root_certificates, self.private_key, self.certificate_chain
        )


@dataclass(frozen=True, slots=True)
class Transport:
    """The address of the service, with the options and credentials for calls to it.

    `target` is a target of gRPC: `host:port`, or `dns:///host:port` to spread calls over all
    addresses of a name. `token` is the bearer token of this caller, or a function that returns the
    current token.

    Raises TypeError for a value of a wrong type. Raises ValueError for a target that is empty or a
    URL, and for a token that is empty or that no header may contain. Also raises ValueError if the
    token would go to another machine without TLS.
    """

    target: str
    tls: Tls | None = None
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    options: Sequence[tuple[str, Any]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.target, str):
            raise TypeError(f"target: a str, not {type(self.target).__name__}")
        if not self.target or self.target.startswith(
            ("http://", "https://", "grpc://", "grpcs://")
        ):
            raise ValueError(
                "target: host:port or dns:///host:port, no URL; TLS is asked for with tls"
            )
        if self.tls is not None and not isinstance(self.tls, Tls):
            raise TypeError(f"tls: a Tls, not {type(self.tls).__name__}")
        if not (self.token is None or isinstance(self.token, str) or callable(self.token)):
            raise TypeError(
                f"token: a str or a function that returns one, not {type(self.token).__name__}"
            )
        if isinstance(self.token, str) and not _is_token(self.token):
            raise ValueError("token: is empty, or holds what no header may")
        if self.token is not None and self.tls is None and not _is_local(self.target):
            raise ValueError("token: goes to another machine over TLS only; give tls")

    def channel_options(self) -> list[tuple[str, Any]]:
        """Returns the options of the gRPC channel. `options` is added to the client's own options.
        An entry of `options` replaces the client's own option with the same name.
        """
        return list({**dict(_OPTIONS), **dict(self.options)}.items())

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call. The metadata contains the bearer token, unless `token` is
        None. Raises Unavailable if `token` is a function that fails or returns no token.
        """
        if self.token is None:
            return ()
        token = self.token if isinstance(self.token, str) else _current(self.token)
        return (("authorization", f"Bearer {token.strip()}"),)


def _is_token(token: str) -> bool:
    """Returns True if a header may contain the token. A text that no header may contain is never
    passed to gRPC, because gRPC's error would show the text.
    """
    token = token.strip()
    return bool(token) and token.isascii() and token.isprintable()


def _current(ask: Callable[[], str]) -> str:
    """Calls the app's function for the token, and returns the token. Raises Unavailable if the
    function fails or returns no token, because no call can be made without the token. The text of
    the function's exception is not passed on, because it may contain secrets.
    """
    try:
        token: object = ask()
    except Exception as error:  # noqa: BLE001 - an app's function may raise anything
        kind = type(error).__name__
        raise Unavailable(f"token: can't be had ({kind})", grpc.StatusCode.UNAVAILABLE) from None
    if not isinstance(token, str):
        kind = type(token).__name__
        raise Unavailable(
            f"token: what the function returns is no str but {kind}", grpc.StatusCode.UNAVAILABLE
        )
    if not _is_token(token):
        raise Unavailable(
            "token: is empty, or holds what no header may", grpc.StatusCode.UNAVAILABLE
        )
    return token


def path_of(method: str) -> str:
    """Returns the path of a method in HTTP/2 requests."""
    return f"/{SERVICE}/{method}"


def _is_local(target: str) -> bool:
    """Returns True if all addresses of a target are on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    addresses = (
        target.removeprefix("dns:///")
        .removeprefix("dns:")
        .removeprefix("ipv4:")
        .removeprefix("ipv6:")
    )
    return all(map(_is_loopback, addresses.split(",")))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]") or address
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
