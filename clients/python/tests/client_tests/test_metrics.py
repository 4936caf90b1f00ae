"""A client with metrics counts what it does. A client without metrics does not load the library for
them.
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from client_tests.harness import Connect, Fake, fails, until
from client_tests.service_harness import DEVICE, Service
from session_authority_client import NearCache, SessionAuthorityError
from session_authority_client.metrics import ClientMetrics
from session_authority_client.testing import FakeAuthority

LONG = timedelta(seconds=30)
PROJECT = Path(__file__).parents[2]


class Shown:
    """The metrics of a client, and a way to read them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ClientMetrics(self.registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"session_authority_client_{name}", labels)


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture(autouse=True)
async def enough_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))


async def test_calls_and_failures_are_counted(
    connect: Connect, authority: FakeAuthority, shown: Shown
):
    async with connect(authority.address, timeout=LONG, metrics=shown.metrics) as client:
        issued = await client.issue_device("ada")
        await client.validate_session(issued.access_token, issued.device.device_id)
        with pytest.raises(SessionAuthorityError):
            await client.issue_device("")
    assert shown("calls_total", method="IssueDevice", code="OK") == 1
    assert shown("calls_total", method="IssueDevice", code="InvalidArgument") == 1
    assert shown("calls_total", method="ValidateSession", code="OK") == 1
    assert shown("call_seconds_count", method="IssueDevice") == 2
    assert shown("in_flight") == 0
    assert shown("batch_size_sum") == shown("batch_size_count") == 1


async def test_batches_are_counted(connect: Connect, scripted: tuple[Service, str], shown: Shown):
    service, address = scripted
    async with connect(address, timeout=LONG, metrics=shown.metrics) as client:
        service.open.clear()
        first = asyncio.create_task(client.validate_session("first", DEVICE))
        await until(lambda: len(service.calls) == 1)
        assert shown("in_flight") == 1
        others = [
            asyncio.create_task(client.validate_session(f"token {n}", DEVICE)) for n in range(5)
        ]
        await asyncio.sleep(0)
        service.open.set()
        await asyncio.gather(first, *others)
    assert shown("batch_size_sum") == 6
    calls = shown("batch_size_count")
    assert calls is not None
    single = shown("calls_total", method="ValidateSession", code="OK") or 0
    together = shown("calls_total", method="BatchValidateSessions", code="OK") or 0
    assert calls == single + together


@pytest.mark.parametrize("times", [1, 2])
async def test_retries_are_counted(connect: Connect, fake: Fake, shown: Shown, times: int):
    fake.acts.extend([fails(grpc.StatusCode.CANCELLED)] * times)
    async with connect(fake.address, timeout=LONG, metrics=shown.metrics) as client:
        await client.validate_session("token", DEVICE)
    assert shown("retries_total", method="ValidateSession") == times
    assert shown("calls_total", method="ValidateSession", code="OK") == 1


async def test_hits_misses_drops_and_staleness_of_a_cache_are_counted(
    connect: Connect, authority: FakeAuthority, shown: Shown
):
    cache = NearCache()
    async with connect(
        authority.address, timeout=LONG, cache=cache, metrics=shown.metrics
    ) as client:
        issued = await client.issue_device("ada")
        token, device_id = issued.access_token, issued.device.device_id
        asked = 0
        async with asyncio.timeout(LONG.total_seconds()):
            while not shown("cache_hits_total"):  # the first validations start the watch
                await client.validate_session(token, device_id)
                asked += 1
        assert shown("cache_misses_total") == asked - 1
        staleness = shown("cache_staleness_seconds")
        assert staleness is not None
        assert staleness < 15
        await client.revoke_all("ada")
        assert shown("cache_dropped_total", reason="event") == 1
    assert shown("cache_staleness_seconds") == math.inf


def test_the_client_alone_does_not_load_prometheus_client():
    code = "import sys, session_authority_client; print('prometheus_client' in sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True)
    assert loaded == "False\n"
