"""How a server is run: where it listens, whom it lets in, and what its mode changes."""

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
    """How `dev` and `serve` differ once they run."""

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
    """Who may call what. Without it anyone may do everything."""
    tls: TlsSource | None = None
    """The certificates. Without them all is plaintext."""
    capacity: Capacity = field(default_factory=Capacity)
    acceptor: Acceptor = Acceptor.STANDING
    """How the calls of the busiest methods are accepted. It is taken for able to work."""
    plaintext_tokens: bool = False
    """True if bearer tokens are accepted over unencrypted connections from elsewhere too."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen, or where the server listens."""

    main: Listen
    bearer: Listen | None = None
    """For calls with bearer tokens, where `main` wants certificates."""
    health: Listen | None = None
    """In plaintext, for questions after the server's health and nothing else."""
