"""Defines the options of a server: its addresses, its callers, and the effects of its mode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from session_authority.access import AccessSource
from session_authority.rpc import Capacity
from session_authority.runtime.addresses import Listen
from session_authority.runtime.settings import Acceptor, Settings
from session_authority.runtime.tls import TlsSource


@dataclass(frozen=True, slots=True)
class Mode:
    """Describes how a server that the command `dev` runs differs from a server that the command
    `serve` runs.
    """

    reflection: bool
    """True if tools such as `grpcurl` can ask the server for its contract (reflection)."""
    share_port: bool = False
    """True if other processes may also listen on the same port (SO_REUSEPORT)."""
    verify: Callable[[Settings], Awaitable[Sequence[str]]] | None = None
    """A function that returns the faults that make the store unsafe. If the function returns a
    fault, the service ends. A probe calls the function if the store answers, refuses no permission,
    and has the right time. After the function has found the store safe, no probe calls it again.
    The function raises StoreUnavailable while the store can't be examined. If `verify` is None, the
    store is not verified.
    """


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The rules for the ports of a server: the accepted callers, TLS, and the limits."""

    access: AccessSource | None = None
    """The permissions of callers. If `access` is None, every client may call every method."""
    tls: TlsSource | None = None
    """The certificates of the ports. If `tls` is None, all connections are plaintext."""
    capacity: Capacity = field(default_factory=Capacity)
    acceptor: Acceptor = Acceptor.STANDING
    """The acceptor for the busiest methods. `acceptor_that_works` returns an acceptor that works
    with the installed release of grpc.
    """
    plaintext_tokens: bool = False
    """True if bearer tokens are also accepted over unencrypted connections from other machines."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The addresses of a server. `Server.start` takes the configured addresses, and returns the
    addresses with the bound ports.
    """

    main: Listen
    bearer: Listen | None = None
    """The address for calls with bearer tokens, used if `main` requires certificates."""
    health: Listen | None = None
    """The address of a plaintext port that only answers health checks."""
