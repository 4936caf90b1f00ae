"""Fixtures for every room: the backends, started once for a whole run and only when a test asks for
them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
import structlog
from hypothesis import settings

from session_authority.runtime.logs import caller_name
from tests.support.backends import STARTERS, Backend
from tests.support.budget import budget

_prefixes = count()

# Readline leaves them to the workers of pytest-xdist, and Rich asks for them when it is imported.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each core, as most tests wait most of their time."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the files that take longest, so that no worker is left alone with one of them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


settings.register_profile("budget", max_examples=budget(34), deadline=None)
settings.load_profile("budget")


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged from here on, entry by entry."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def no_logger_outlives_its_stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that is run in this process sets up logging, to a stream that is closed when it
    ends.
    """
    configure = structlog.configure
    monkeypatch.setattr(
        structlog,
        "configure",
        lambda **given: configure(**{**given, "cache_logger_on_first_use": False}),
    )
    loggers = [logging.getLogger(name) for name in (None, "asyncio", "grpc")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    structlog.reset_defaults()
    caller_name.set(None)
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Backend]]:
    """Gives a backend by its name."""
    started: dict[str, Backend] = {}
    with ExitStack() as stack:

        def start(name: str) -> Backend:
            if name not in started:
                starter: Any = STARTERS[name]
                started[name] = stack.enter_context(starter(tmp_path_factory.mktemp(name)))
            return started[name]

        yield start


@pytest.fixture(params=sorted(STARTERS))
def backend(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    """Each backend in turn."""
    return backends(request.param)


@pytest.fixture
def valkey_backend(backends: Callable[[str], Backend]) -> Backend:
    """The bundled Valkey: the real thing, where one is enough."""
    return backends("valkey")


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"t{next(_prefixes)}"
