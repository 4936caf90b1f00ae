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
    """The differences between the commands `dev` and `serve` while a server runs."""

    reflection: bool
    """True if tools such as `grpcurl` can ask the server for its contract (reflection)."""
    share_port: bool = False
    """True if other processes may also listen on the same port (SO_REUSEPORT)."""
    verify: Callable[[Settings], Awaitable[Sequence[str]]] | None = None
    """Returns the faults that make the store unsafe. If there is a fault, the service ends. A probe
    calls this function if the store answers, refuses no permission, and has the right time. After
    the function has found the store safe, it is not called again. Raises StoreUnavailable if the
    faults can't be known yet.
    """


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The rules of the ports: the accepted callers, TLS, and the number of connections."""

    access: AccessSource | None = None
    """The permissions of callers. If it is None, every client may call everything."""
    tls: TlsSource | None = None
    """The certificates. If it is None, all connections are plaintext."""
    capacity: Capacity = field(default_factory=Capacity)
    acceptor: Acceptor = Acceptor.STANDING
    """The acceptor for the busiest methods. It must have been tested with the installed grpc."""
    plaintext_tokens: bool = False
    """True if bearer tokens are also accepted over unencrypted connections from other machines."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The addresses of the server. Before the start they are the configured addresses. After the
    start they have the bound ports.
    """

    main: Listen
    bearer: Listen | None = None
    """The address for calls with bearer tokens, used if `main` requires certificates."""
    health: Listen | None = None
    """The address of a plaintext port that only answers health checks."""
