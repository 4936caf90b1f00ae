"""The server is killed under load and started again: every answer that it gave more than a second
before the kill still holds.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import grpc
import pytest

from session_authority.v1 import session_authority_pb2 as pb
from tests.support.commands import Caller, DevServer, dev_server, is_running
from tests.support.waiting import wait_for

# Appended writes reach the disk once a second. A killed process loses none of them; a power cut
# may.
AT_RISK_SECONDS = 1.0


def kill_server(server: DevServer) -> None:
    """Its Valkey goes on, as an orphan that the next server must find."""
    valkey = server.valkey_process_id
    os.kill(server.process.pid, signal.SIGKILL)
    server.wait()
    assert is_running(valkey)


def kill_everything(server: DevServer) -> None:
    valkey = server.valkey_process_id
    os.killpg(server.process.pid, signal.SIGKILL)
    server.wait()
    wait_for(lambda: not is_running(valkey), "its Valkey to be gone")


@pytest.mark.parametrize("kill", [kill_server, kill_everything])
def test_every_answer_outlives_a_kill(tmp_path: Path, kill):
    data_dir = tmp_path / "data"
    answered: list[tuple[float, pb.IssueDeviceResponse]] = []
    revoked: list[pb.IssueDeviceResponse] = []

    def traffic(address: str) -> None:
        with Caller(address) as caller:
            try:
                for number in range(1_000_000):
                    signed_in = caller.stub.IssueDevice(
                        pb.IssueDeviceRequest(user_id=f"user-{number % 50}"), timeout=20
                    )
                    if number % 5:
                        answered.append((time.monotonic(), signed_in))
                        continue
                    device_id = signed_in.device.device_id
                    caller.stub.RevokeDevice(
                        pb.RevokeDeviceRequest(user_id=f"user-{number % 50}", device_id=device_id),
                        timeout=20,
                    )
                    revoked.append(signed_in)
            except grpc.RpcError:
                pass  # The kill.

    with dev_server(data_dir, MAX_DEVICES="10000") as server:
        threads = [threading.Thread(target=traffic, args=(server.address,)) for _ in range(2)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        wait_for(
            lambda: len(answered) > 200 and time.monotonic() > started + AT_RISK_SECONDS + 0.2,
            "traffic",
        )
        killed = time.monotonic()
        kill(server)
        for thread in threads:
            thread.join()
        with dev_server(data_dir, MAX_DEVICES="10000") as again, Caller(again.address) as caller:
            safe = [
                signed_in for moment, signed_in in answered if moment < killed - AT_RISK_SECONDS
            ]
            assert safe
            batches = [safe[start : start + 500] for start in range(0, len(safe), 500)]
            statuses = {status for batch in batches for status in _statuses(caller, batch)}
            assert statuses == {pb.SESSION_STATUS_ACTIVE}
            assert set(_statuses(caller, revoked[: len(revoked) // 2])) <= {
                pb.SESSION_STATUS_NO_SESSION
            }
            assert again.terminate() == 0, again.errors
        assert not is_running(server.process.pid)


def _statuses(caller: Caller, signed_in: list[pb.IssueDeviceResponse]) -> list[pb.SessionStatus]:
    requests = [
        pb.ValidateSessionRequest(access_token=s.access_token, device_id=s.device.device_id)
        for s in signed_in[:500]
    ]
    answer = caller.stub.BatchValidateSessions(
        pb.BatchValidateSessionsRequest(requests=requests), timeout=30
    )
    return [result.response.status for result in answer.results]
