"""The servers of the client's tests: a development server, and servers that a test controls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from client_tests import service_harness
from client_tests.harness import KINDS, Connect, Fake
from session_authority_client.testing import FakeAuthority
from tests.support.closed_loops import drop_events_of_closed_loops
from tests.support.dev import dev_server

drop_events_of_closed_loops()

SETTINGS = {
    "SESSION_AUTHORITY_GRACE": "0s",
    "SESSION_AUTHORITY_DURABLE_AFTER": "0s",
    "SESSION_AUTHORITY_ALARM_AFTER": "1s",
    "SESSION_AUTHORITY_MAX_DEVICES": "2",
}


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A development server with short times: after a second, tokens rotate and old tokens count as
    replays. Users have at most two devices.
    """
    with dev_server(tmp_path_factory.mktemp("dev") / "data", SETTINGS) as server:
        yield server.address


@pytest.fixture(params=sorted(KINDS))
def connect(request: pytest.FixtureRequest) -> Connect:
    """A function that makes a client. Each test runs with each kind of client."""
    return KINDS[request.param]


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A service that does as each test says."""
    with Fake() as server:
        yield server


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    """The fake service that the client ships for the tests of apps."""
    with FakeAuthority() as authority:
        yield authority


@pytest.fixture
def scripted() -> Iterator[tuple[service_harness.Service, str]]:
    """A service whose answers a test controls, and its address."""
    with service_harness.running() as running:
        yield running
