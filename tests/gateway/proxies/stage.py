"""An authority, its gateway and an app for the proxies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from session_authority_client.testing import FakeAuthority
from tests.gateway.proxies.process import running_gateway
from tests.gateway.proxies.programs import APP, GATEWAY_GRPC, GATEWAY_HTTP, running
from tests.gateway.proxies.upstream import Upstream, upstream_server
from tests.support.ports import free_port


class Stage:
    """Everything that all tests of the proxies share in one run. Proxies start when a test first
    needs them.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._proxies: dict[str, int] = {}
        self.authority = stack.enter_context(FakeAuthority())
        self.ports = {APP: free_port(), GATEWAY_HTTP: free_port(), GATEWAY_GRPC: free_port()}
        self.upstream: Upstream = stack.enter_context(upstream_server(self.ports[APP]))
        self.gateway = stack.enter_context(
            running_gateway(folder / "gateway", self.authority.address, self.ports)
        )

    def proxy(self, name: str, change: Callable[[str], str] = str) -> int:
        """The port of a proxy with the shipped configuration."""
        if name not in self._proxies:
            started = running(name, self._folder / name, self.ports, change)
            self._proxies[name] = self._stack.enter_context(started)
        return self._proxies[name]


@contextmanager
def stage_in(folder: Path) -> Iterator[Stage]:
    """A stage, until the end of the block."""
    with ExitStack() as stack:
        yield Stage(folder, stack)
