"""Fixtures for all tests: the backends, each started once for a run, and only when a test
needs it.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Generator, Iterator, MutableMapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from session_authority.runtime.logs import caller_name
from session_authority.runtime.settings import PREFIX, Acceptor
from tests.support.backends import STARTERS, Backend
from tests.support.budget import budget
from tests.support.closed_loops import drop_events_of_closed_loops
from tests.support.results import Results

drop_events_of_closed_loops()

_prefixes = count()

# Readline exports these variables to the workers of pytest-xdist, and Rich reads them when it is
# imported.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


def pytest_xdist_auto_num_workers() -> int:
    """Starts two workers for each core, as most tests wait most of their time."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends a run with one plain line of results, unless the run is quiet."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    results = Results.of(reporter.stats)
    if config.option.verbose >= 0:
        reporter.write_line(results.line())
    results.note_skipped()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector away from the collected tests, thousands of objects that stay.

    The collector stopped each worker for up to a second, again and again. A store in the same
    process as its callers then did not answer in time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow tests first, so that no worker is left alone with one of them at the end.

    Some tests run once for each method. For a method that has no standing tasks, both settings of
    the acceptor are the same, so the run with the stock acceptor is left out.
    """
    items[:] = [item for item in items if not _is_tried_already(item)]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


# Tests in these folders run once with each acceptor (the setting ACCEPTOR). Exceptions are tests
# that are marked as `one_acceptor`, and the files below: their tests start no server with the
# setting, or share one server.
_FOLDERS_WITH_SERVERS = {"rpc", "processes", "e2e"}
_FILES_WITHOUT_SERVERS = {
    "test_acceptor.py",
    "test_long_calls.py",
    "test_wakeups.py",
    "test_canary_inputs.py",
    "test_descriptor_budget.py",
    "test_heartbeat.py",
    "test_offline_page.py",
    "test_readme.py",
    "test_wrong_clock.py",
    "test_keys_page.py",
    "test_operations_page.py",
    "test_options.py",
    "test_security_page.py",
}
_STANDING_METHODS = {"ValidateSession", "BatchValidateSessions", "RenewSession"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of servers with each acceptor."""
    path = metafunc.definition.path.relative_to(Path(__file__).parent)
    if (
        path.parts[0] in _FOLDERS_WITH_SERVERS
        and path.name not in _FILES_WITHOUT_SERVERS
        and metafunc.definition.get_closest_marker("one_acceptor") is None
    ):
        names = [acceptor.value for acceptor in Acceptor]
        metafunc.parametrize("acceptor", list(Acceptor), ids=names, indirect=True)


@pytest.fixture(autouse=True)
def acceptor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Acceptor:
    """The acceptor of the test's servers, including servers in separate processes."""
    if not hasattr(request, "param"):
        return Acceptor.STANDING
    chosen: Acceptor = request.param
    monkeypatch.setenv(f"{PREFIX}ACCEPTOR", chosen.value)
    return chosen


def _is_tried_already(item: pytest.Item) -> bool:
    values: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return (
        values.get("acceptor") is Acceptor.STOCK
        and values.get("method", "ValidateSession") not in _STANDING_METHODS
    )


settings.register_profile("budget", max_examples=budget(34), deadline=None)
settings.load_profile("budget")

# The root logger, and the loggers that commands of this project change.
_LOGGERS = (None, "asyncio", "grpc", "session_authority_client")


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """The entries that are logged from here on."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def no_logger_outlives_its_stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores the logging after each test.

    A command that runs in this process sets up logging to a stream that is closed when it ends, or
    silences a library.
    """
    configure = structlog.configure
    monkeypatch.setattr(
        structlog,
        "configure",
        lambda **given: configure(**{**given, "cache_logger_on_first_use": False}),
    )
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
    yield
    structlog.reset_defaults()
    caller_name.set(None)
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Backend]]:
    """A function that returns a backend by its name, and starts it if needed."""
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
    """A backend. The test runs on each backend in turn."""
    return backends(request.param)


@pytest.fixture
def valkey_backend(backends: Callable[[str], Backend]) -> Backend:
    """The bundled Valkey, for tests that need only one real server."""
    return backends("valkey")


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"t{next(_prefixes)}"
