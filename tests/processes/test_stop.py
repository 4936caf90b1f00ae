"""An orderly end: the server first reports it, then finishes the calls under way, then closes
everything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from session_authority.processes import server as server_module
from session_authority.processes.health_service import LIVENESS
from session_authority.runtime.settings import Acceptor
from session_authority.store.driver.questions import Command
from session_authority.store.records import Commit
from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.harness import NOT_SERVING, PATIENCE, SERVING, House, Serve, house
from tests.store.samples import NOW, key, session, stored_session
from tests.support.backends import Backend, valkey_server
from tests.support.commands import Caller, descendants, dev_server, is_running
from tests.support.waiting import eventually, wait_for

MARK = Commit(
    "ada",
    NOW,
    if_sessions={key(1): stored_session(1)},
    set_sessions={key(1): session(1)},
    durable=False,
)


class Gate:
    """Holds a use case until the gate is opened, and records how the use case ended."""

    def __init__(self, house: House) -> None:
        self.entered, self.open, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._sound = house.server._authority.list_devices
        house.server._authority.list_devices = self._held  # type: ignore[method-assign]

    async def _held(self, *args: Any, **more: Any) -> Any:
        self.entered.set()
        try:
            await self.open.wait()
            return await self._sound(*args, **more)
        finally:
            await asyncio.sleep(0.2)  # The use case cleans up.
            self.ended.set()


async def test_a_stopping_server_reports_it_first_and_finishes_calls_under_way(
    serve: Serve, valkey_backend: Backend
):
    house = await serve(valkey_backend.url)
    gate, watch, liveness = Gate(house), house.watch(), house.watch(LIVENESS)
    assert (await watch.read()).status == (await liveness.read()).status == SERVING
    call = asyncio.ensure_future(_list_devices(house))
    await asyncio.wait_for(gate.entered.wait(), PATIENCE)
    stopping = asyncio.ensure_future(house.server.stop(timedelta(seconds=PATIENCE)))
    assert (await asyncio.wait_for(watch.read(), PATIENCE)).status == NOT_SERVING
    assert not stopping.done()
    assert not call.done()
    gate.open.set()
    assert (await call).total_size == 0
    # The stream, which would go on for ever, does not delay the end either.
    await asyncio.wait_for(stopping, PATIENCE / 2)
    for stream in (watch, liveness):  # The process lived until the end.
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()


async def test_a_call_that_takes_too_long_is_cut_off_and_awaited(
    serve: Serve, valkey_backend: Backend
):
    house = await serve(valkey_backend.url)
    gate = Gate(house)
    call = asyncio.ensure_future(_list_devices(house))
    await asyncio.wait_for(gate.entered.wait(), PATIENCE)
    await house.server.stop(timedelta(0))
    assert gate.ended.is_set(), "its handler still runs, on a store that is closed"
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_marks_do_not_delay_the_end_behind_a_hung_store(
    keys: Path, prefix: str, acceptor: Acceptor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The server drops all marks, and sends no more marks than were on their way."""
    monkeypatch.setattr(server_module, "_LAST_WRITES", timedelta(0))
    patient = timedelta(seconds=PATIENCE)
    options: dict[str, Any] = {"acceptor": acceptor, "redis_timeout": patient}
    with valkey_server(tmp_path / "valkey") as valkey:
        async with house(valkey.url, keys, prefix, reflection=False, **options) as made:
            store, writes = made.server._store, made.server._authority._best_effort
            sizes: list[int] = []
            send = store._marks._send

            async def counted(commands: Sequence[Command]) -> Sequence[Any]:
                sizes.append(len(commands))
                return await send(commands)

            monkeypatch.setattr(store._marks, "_send", counted)
            os.kill(valkey.process_id, signal.SIGSTOP)
            try:
                for number in range(100):
                    writes.write("ada", key(number), partial(store.commit, MARK))
                await eventually(lambda: sizes, "marks to leave")
                await asyncio.wait_for(made.server.stop(timedelta(0)), PATIENCE)
            finally:
                os.kill(valkey.process_id, signal.SIGCONT)
            assert writes._metrics.best_effort_writes_dropped._value.get() == 100
            await asyncio.wait_for(store._marks.settled(), PATIENCE)
            assert len(sizes) == 1, "it sent marks that it had dropped"


async def _list_devices(house: House) -> Any:
    return await house.stub.ListDevices(pb.ListDevicesRequest(user_id="ada"), timeout=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_answer(tmp_path: Path, number: signal.Signals):
    """SIGINT goes to the whole group, as Ctrl-C on a terminal does."""
    data_dir = tmp_path / "data"
    answered: list[pb.IssueDeviceResponse] = []
    codes: list[str] = []

    def traffic(address: str) -> None:
        with Caller(address) as caller:
            while not codes or codes[-1] == "OK":
                try:
                    answered.append(
                        caller.stub.IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=20)
                    )
                    codes.append("OK")
                except grpc.RpcError as error:
                    codes.append(error.code().name)

    # With the stream and the long drain, an end that waited for the stream would take too long for
    # this test.
    with (
        dev_server(data_dir, DRAIN_TIMEOUT="10m", MAX_DEVICES="10000") as server,
        Caller(server.address) as watcher,
    ):
        watch = watcher.health_stub.Watch(health_pb2.HealthCheckRequest(), timeout=120)
        assert next(watch).status == SERVING
        threads = [threading.Thread(target=traffic, args=(server.address,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answered) > 20, "traffic")
        family = [server.process.pid, *descendants(server.process.pid)]
        assert server.valkey_process_id in family
        if number is signal.SIGINT:
            os.killpg(server.process.pid, number)
        else:
            server.process.send_signal(number)
        assert server.wait() == 0, server.errors
        for thread in threads:
            thread.join()
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(watch)
        # gRPC itself refuses a call that arrives in the very moment of the end, with either of
        # these codes.
        assert set(codes) <= {"OK", "UNAVAILABLE", "CANCELLED"}
        assert len(codes) - codes.count("OK") == len(threads)
        wait_for(lambda: not any(map(is_running, family)), "its processes to be gone")
        assert server.events() == ["serving", "listening", "stopping", "stopped"]
        assert [line for line in server.errors.splitlines() if not line.startswith("{")] == []
    with dev_server(data_dir) as again, Caller(again.address) as caller:
        assert {caller.status(signed_in) for signed_in in answered} == {"ACTIVE"}
        assert again.terminate() == 0


def test_a_second_stop_during_the_drain_is_no_crash(tmp_path: Path):
    with dev_server(tmp_path / "data") as server:
        for _ in range(5):
            server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0, server.errors
