"""What the scenarios run on: each testee in turn, a service whose answers a test scripts, and a
service whose clock a test sets.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from subprocess import CalledProcessError
from typing import Any, NoReturn, Protocol

import pytest

from client_tests import service_harness
from client_tests.harness import Fake
from session_authority_client.testing import FakeAuthority
from tests.polyglot.testee import PATIENCE, Process, Testee
from tests.polyglot.testees import Program, all_recipes, built, wanted_recipes


class Connect(Protocol):
    """Lets the testee make a client, which is named `a` unless a name is given."""

    async def __call__(self, target: str, **fields: Any) -> None: ...


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each scenario with each testee."""
    if "testee_name" in metafunc.fixturenames:
        metafunc.parametrize("testee_name", list(wanted_recipes()), scope="session")


def missing(text: str) -> NoReturn:
    """Skips a scenario that this machine can't run. Fails where every scenario must run."""
    if os.environ.get("REQUIRE_BACKENDS") == "1":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def program_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Program]:
    """Returns the program of a testee by name, built once in a run of the tests."""
    scratch = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        scratch = scratch.parent

    def program(name: str) -> Program:
        try:
            found = built(all_recipes()[name], scratch)
        except CalledProcessError as error:
            pytest.fail(f"{error}\n{error.stdout}")
        return missing(f"{name}: {found}") if isinstance(found, str) else found

    return program


@pytest.fixture(scope="session")
def process_of(program_of: Callable[[str], Program]) -> Iterator[Callable[[str], Process]]:
    """Returns a running testee by name. If a testee ended by itself, the next test that needs it
    fails. At the end of the run all testees must end in order, or the last test fails.
    """
    running: dict[str, Process] = {}

    def process(name: str) -> Process:
        if name in running and not running[name].running:
            ended = running.pop(name)
            pytest.fail(f"{name} ended by itself, with {ended.end()}:\n{ended.stderr}")
        if name not in running:
            running[name] = Process(program_of(name))
        return running[name]

    yield process
    ends = {name: process.end() for name, process in running.items()}
    assert ends == dict.fromkeys(running, 0)


@pytest.fixture
async def testee(
    testee_name: str, process_of: Callable[[str], Process], request: pytest.FixtureRequest
) -> AsyncIterator[Testee]:
    """A running testee. The mark `commands` names the commands that a scenario needs beside the
    usual ones.
    """
    process = process_of(testee_name)
    needed = {name for marker in request.node.iter_markers("commands") for name in marker.args}
    if absent := needed - process.commands:
        missing(f"{testee_name}: it knows no {', '.join(sorted(absent))}")
    async with Testee(process) as testee:
        yield testee


@pytest.fixture
def connect(testee: Testee) -> Connect:
    async def make(target: str, *, client: str = "a", **fields: Any) -> None:
        patient = {"timeout_ms": PATIENCE * 500}
        await testee.do("connect", client=client, target=target, **{**patient, **fields})
        testee.clients.append(client)

    return make


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A service whose answers a test scripts, call by call."""
    with Fake() as server:
        yield server


@pytest.fixture
def scripted() -> Iterator[service_harness.Service]:
    """A service that keeps the parts of the contract that matter to caches."""
    with service_harness.running() as (service, _):
        yield service


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    """A service that gives the verdicts of the real one, and whose clock a test sets."""
    with FakeAuthority() as running:
        yield running
