"""The options of a server: its addresses, its callers, and the effects of its mode."""

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
    """The differences between `dev` and `serve` while they run."""

    reflection: bool
    """True if the server tells its contract to `grpcurl` and its like."""
    share_port: bool = False
    """True if other processes may listen on the same port (SO_REUSEPORT)."""
    verify: Callable[[Settings], Awaitable[Sequence[str]]] | None = None
    """Called when the store answers for the first time: returns what makes the store unsafe, which
    ends the service. Raises StoreUnavailable if that can't be told yet.
    """


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The rules of the ports: the callers that they accept, TLS, and the number of connections."""

    access: AccessSource | None = None
    """The permissions of callers. Without it every client may call everything."""
    tls: TlsSource | None = None
    """The certificates. Without them all connections are plaintext."""
    capacity: Capacity = field(default_factory=Capacity)
    acceptor: Acceptor = Acceptor.STANDING
    """The acceptor for the busiest methods. It must be known to work."""
    plaintext_tokens: bool = False
    """True if bearer tokens are accepted over unencrypted connections from other machines, too."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The addresses at which the server is to listen, or listens."""

    main: Listen
    bearer: Listen | None = None
    """The address for calls with bearer tokens, if `main` requires certificates."""
    health: Listen | None = None
    """The address for health checks alone, in plaintext."""
