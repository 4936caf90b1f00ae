"""A relay, its store, and one endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.relay.harness import Mailbox, RelayHarness
from tests.support.backends import Backend


@pytest.fixture
async def harness(valkey_backend: Backend, prefix: str) -> AsyncIterator[RelayHarness]:
    harness = RelayHarness(valkey_backend.url, prefix)
    yield harness
    await harness.store.close()


@pytest.fixture
def box() -> Mailbox:
    return Mailbox()
