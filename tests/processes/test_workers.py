"""Several processes on one port are one service."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from session_authority.access import add_token, new_token
from session_authority.geoip import GeoipError
from session_authority.processes import heartbeat, workers
from session_authority.processes.heartbeat import Heart
from session_authority.processes.options import Mode
from session_authority.runtime import logs
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings
from session_authority.v1 import session_authority_pb2 as pb
from tests.support.commands import Caller, DevServer, descendants, dev_server, is_running, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

REVOKED = 'session_authority_revocations_total{kind="all"}'
KEPT = "session_authority_kept_answers_total"

pytestmark = pytest.mark.slow


class Team:
    """A dev server with two workers. A worker's gauge shows which connections it has."""

    def __init__(self, server: DevServer, metrics_port: int) -> None:
        self.server = server
        self._metrics_port = metrics_port

    def process_ids(self) -> set[int]:
        """The process IDs of the workers."""
        return {
            pid
            for pid in descendants(self.server.process.pid)
            if b"spawn_main" in _command_line(pid)
        }

    def worker_of(self, caller: Caller) -> int:
        """The worker that has this caller's connection."""
        before = self._connections()
        caller.stub.ListDevices(
            pb.ListDevicesRequest(user_id="nobody"), timeout=30, wait_for_ready=True
        )
        wait_for(lambda: self._connections() != before, "the connection to be seen")
        now = self._connections()
        [worker] = [number for number in range(2) if now[number] > before[number]]
        return worker

    @contextmanager
    def one_caller_each(self) -> Iterator[tuple[Caller, Caller]]:
        """A caller whose connection is at the first worker, and a caller whose connection is at the
        second.
        """
        found: dict[int, Caller] = {}
        with ExitStack() as stack:

            def both() -> bool:
                caller = stack.enter_context(Caller(self.server.address))
                found[self.worker_of(caller)] = caller
                return len(found) == 2

            wait_for(both, "both workers to be given a connection")
            yield found[0], found[1]

    def counted(self, series: str) -> float:
        """The value of a series for all workers together, 0 if there is none."""
        return sum(map(float, re.findall(rf"^{re.escape(series)} (\S+)$", self.page(), re.M)))

    def workers_up(self) -> dict[str, float]:
        """The workers that answer."""
        pattern = r'^session_authority_worker_up\{worker="(\d)"\} (\S+)$'
        found = re.findall(pattern, self.page(), re.MULTILINE)
        return {worker: float(number) for worker, number in found}

    def page(self) -> str:
        """The page of all metrics."""
        address = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=30) as page:
            text: str = page.read().decode()
            return text

    def _connections(self) -> list[float]:
        """The number of connections of each worker."""
        found = dict(
            re.findall(
                r'^session_authority_connections\{port="main",worker="(\d)"\} (\S+)$',
                self.page(),
                re.MULTILINE,
            )
        )
        return [float(found.get(str(number), 0)) for number in range(2)]


def _command_line(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def team(data_dir: Path) -> Iterator[Team]:
    port, metrics_port = free_port(), free_port()
    with dev_server(
        data_dir, f"127.0.0.1:{port}", WORKERS="2", METRICS_LISTEN=f"127.0.0.1:{metrics_port}"
    ) as server:
        server.wait_for_event("listening", 2)
        yield Team(server, metrics_port)


def test_two_workers_are_one_service(tmp_path: Path):
    with team(tmp_path / "data") as both:
        with both.one_caller_each() as (first, second):
            for through, elsewhere in ((first, second), (second, first)):
                signed_in = through.sign_in()
                assert elsewhere.status(signed_in) == "ACTIVE"
                revoke = pb.RevokeAllRequest(user_id="ada")
                assert elsewhere.stub.RevokeAll(revoke, timeout=30).revoked_devices == 1
                assert through.status(signed_in) == "NO_SESSION"
        # If the page is requested again and again, the answer may be a moment old.
        wait_for(lambda: both.counted(REVOKED) == 2, "one revocation by each worker to be counted")
        assert both.workers_up() == {"0": 1, "1": 1}
        assert set(re.findall(r'^process_open_fds\{worker="(\w+)"\}', both.page(), re.M)) == {
            "0",
            "1",
            "parent",
        }

        workers = both.process_ids()
        assert len(workers) == 2
        lost = min(workers)
        os.kill(lost, signal.SIGKILL)
        died = both.server.wait_for_event("worker_died")
        assert died["exit_code"] == -signal.SIGKILL
        both.server.wait_for_event("listening", 3)
        assert len(both.process_ids() - workers) == 1
        wait_for(lambda: both.workers_up() == {"0": 1, "1": 1}, "the new worker to be heard")
        assert both.counted(REVOKED) == 2, "what a worker counted outlives it"
        with both.one_caller_each() as (first, second):
            assert second.status(first.sign_in()) == "ACTIVE"

        family = descendants(both.server.process.pid)
        assert both.server.terminate() == 0
        wait_for(lambda: not any(map(is_running, family)), "its processes to be gone")
        assert both.server.events().count("stopped") == 2
        assert "Traceback" not in both.server.errors


def test_a_worker_s_kept_answer_is_not_used_once_another_worker_revoked(tmp_path: Path):
    with team(tmp_path / "data") as both, both.one_caller_each() as callers:
        for revoking in callers:
            signed_in = revoking.sign_in()
            before = both.counted(KEPT)
            for caller in callers:
                assert [caller.status(signed_in) for _ in range(3)] == ["ACTIVE"] * 3
            wait_for(lambda n=before + 4: both.counted(KEPT) == n, "each worker to keep its answer")  # type: ignore[misc]
            revoking.stub.RevokeAll(pb.RevokeAllRequest(user_id="ada"), timeout=30)
            assert [caller.status(signed_in) for caller in callers] == ["NO_SESSION"] * 2


@pytest.mark.one_acceptor
def test_a_hung_worker_is_replaced(tmp_path: Path):
    with team(tmp_path / "data") as both:
        before = both.process_ids()
        stopped = min(before)
        os.kill(stopped, signal.SIGSTOP)
        wait_for(
            lambda: sorted(both.workers_up().values()) == [0, 1], "the stopped worker to be down"
        )
        hung = both.server.wait_for_event("worker_hung")
        died = both.server.wait_for_event("worker_died")
        assert (died["worker"], died["exit_code"]) == (hung["worker"], -signal.SIGKILL)
        both.server.wait_for_event("listening", 3)
        assert both.process_ids() & before == before - {stopped}
        with both.one_caller_each() as (first, second):
            assert second.status(first.sign_in()) == "ACTIVE"
        assert both.server.events().count("worker_hung") == 1
        assert both.server.terminate() == 0


@pytest.mark.one_acceptor
def test_workers_do_not_outlive_their_supervisor(tmp_path: Path):
    with team(tmp_path / "data") as both:
        workers = both.process_ids()
        os.kill(both.server.process.pid, signal.SIGKILL)
        both.server.wait()
        wait_for(lambda: not any(map(is_running, workers)), "the workers to end", 40)
        assert both.server.events().count("stopped") == 2


@pytest.mark.one_acceptor
@pytest.mark.parametrize(("workers", "others"), [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")])
def test_a_port_in_use_is_refused(tmp_path: Path, taken: dict[str, str], workers: str, others: str):
    """This holds also where both processes would share the port."""
    address = taken[others]
    result = run(
        tmp_path, "dev", "--listen", address, "--data-dir", str(tmp_path / "data"), WORKERS=workers
    )
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if not line.startswith("{")] == [
        f"session-authority: can't listen on {address}: the port is taken"
    ]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of a server with one worker, and the address of a server with two."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("taken")
        found = {}
        for workers in ("1", "2"):
            server = stack.enter_context(
                dev_server(folder / workers, f"127.0.0.1:{free_port()}", WORKERS=workers)
            )
            found[workers] = server.address
        yield found
        assert all(Caller(address).health() == "SERVING" for address in found.values())


def test_workers_need_a_port_number(tmp_path: Path):
    result = run(
        tmp_path,
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        str(tmp_path / "data"),
        WORKERS="2",
    )
    assert (result.returncode, result.stderr.strip()) == (
        1,
        "session-authority: several workers need a port that is named; 0 gives each another one",
    )


@pytest.mark.one_acceptor
def test_a_worker_that_cannot_start_ends_no_other_worker(tmp_path: Path):
    """A broken policy changes nothing for a process that has read the policy before. If one worker
    dies, its successor cannot start with the broken policy, but the other worker must go on.
    """
    policy = tmp_path / "access.toml"
    policy.write_text('[callers.login]\nroles = ["operator"]\n')
    token, tokens = new_token(), tmp_path / "tokens"
    add_token(tokens, "login", token, now())
    listen = f"127.0.0.1:{free_port()}"
    with dev_server(
        tmp_path / "data", listen, WORKERS="2", ACCESS_POLICY=str(policy), CALLER_TOKENS=str(tokens)
    ) as server:
        server.wait_for_event("serving", 2)
        whole = policy.read_text()
        policy.write_text("[callers")
        server.wait_for_event("access_not_changed", 2)
        [victim, *_] = [
            pid for pid in descendants(server.process.pid) if b"spawn_main" in _command_line(pid)
        ]
        os.kill(victim, signal.SIGKILL)
        failed = server.wait_for_event("worker_failed", 2)
        assert str(policy) in failed["faults"][0], "the log says why"
        with Caller(server.address, token) as caller:
            assert caller.status(caller.sign_in()) == "ACTIVE"
        policy.write_text(whole)
        server.wait_for_event("serving", 3)
        assert server.terminate() == 0


def test_a_worker_logs_each_fault_that_keeps_it_from_starting(monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object) -> None:
        raise GeoipError("places.mmdb: can't be read: Permission denied")

    monkeypatch.setattr(workers, "serve", fail)
    monkeypatch.setattr(logs, "configure", lambda _: None)
    parent_end, worker_end = Pipe()
    with (
        capture_logs() as logged,
        parent_end,
        worker_end,
        pytest.raises(SystemExit),
        socket.socket() as link,
    ):
        workers._work(Settings(), Mode(reflection=False), 1, worker_end, link)
    assert [entry["faults"] for entry in logged] == [
        ["places.mmdb: can't be read: Permission denied"]
    ]


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of these signals are restored afterwards."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.one_acceptor
@pytest.mark.usefixtures("signals")
def test_workers_that_keep_dying_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_RESTART_DELAY_SECONDS", 0)
    monkeypatch.setattr(workers, "_MAX_DEATHS", 3)
    # `os.abort` takes no arguments, so the call fails, and each worker dies at once.
    monkeypatch.setattr(workers, "_work", os.abort)
    with pytest.raises(workers.WorkersFailed, match="keep dying"):
        workers.run(
            Settings(listen=f"127.0.0.1:{free_port()}", workers=2),
            Mode(reflection=False),
            lambda _: None,
        )


def _block_the_loop(
    _settings: Settings, _mode: Mode, _index: int, beats: Connection, _link: socket.socket
) -> None:
    """The work of a worker whose event loop runs something that does not end."""

    async def block() -> None:
        Heart(beats).start()
        time.sleep(60)  # noqa: ASYNC251 - the fault

    asyncio.run(block())


@pytest.mark.one_acceptor
@pytest.mark.usefixtures("signals")
def test_a_worker_whose_event_loop_is_blocked_is_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_RESTART_DELAY_SECONDS", 0)
    monkeypatch.setattr(workers, "_MAX_DEATHS", 2)
    monkeypatch.setattr(heartbeat, "HUNG_AFTER_SECONDS", 1.0)
    monkeypatch.setattr(workers, "_work", _block_the_loop)
    with capture_logs() as logged, pytest.raises(workers.WorkersFailed):
        workers.run(
            Settings(listen=f"127.0.0.1:{free_port()}", workers=2),
            Mode(reflection=False),
            lambda _: None,
        )
    assert [entry["event"] for entry in logged].count("worker_hung") == 2
    codes = {entry["exit_code"] for entry in logged if entry["event"] == "worker_died"}
    assert codes == {-signal.SIGKILL}
