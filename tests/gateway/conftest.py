"""One fake of the service for all tests of a module, and a gateway that uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from session_authority_client import AsyncSessionAuthority
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import Proxy, proxy_before


@pytest.fixture(scope="module")
def shared_fake() -> Iterator[FakeAuthority]:
    with FakeAuthority() as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeAuthority) -> FakeAuthority:
    """A service without sessions."""
    shared_fake.reset()
    return shared_fake


@pytest.fixture
async def authority(fake: FakeAuthority) -> AsyncIterator[AsyncSessionAuthority]:
    async with fake.async_client() as client:
        yield client


@pytest.fixture
def proxy(authority: AsyncSessionAuthority) -> Proxy:
    """A proxy with a gateway that has the flow of `harness.FLOW`."""
    return proxy_before(authority)
