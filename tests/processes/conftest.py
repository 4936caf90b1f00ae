"""Servers in this process. Each server ends with its test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from session_authority.runtime.settings import Acceptor
from tests.processes.harness import House, Serve, add_signing_key, house


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with a key that signs."""
    folder = tmp_path / "keys"
    add_signing_key(folder)
    return folder


@pytest.fixture
async def serve(keys: Path, prefix: str, acceptor: Acceptor) -> AsyncIterator[Serve]:
    """Runs a server on the store at a URL."""
    async with AsyncExitStack() as stack:

        async def start(url: str, *, reflection: bool = False, **settings: Any) -> House:
            settings = {"acceptor": acceptor, **settings}
            return await stack.enter_async_context(house(url, keys, prefix, reflection, **settings))

        yield start
