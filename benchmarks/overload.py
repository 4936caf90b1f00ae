"""Measures the service under ten times the load that it can handle.

Starts a server of its own and sends it calls with h2load (Debian's nghttp2-client). First, eight
connections have more and more calls at once, to find the peak: the load with the most good
answers. Then the load is ten times as high, and then it is at the peak again. The number of good
answers is the server's own count. During each load, the health check is called again and again, and
the memory is read.

h2load never pauses between calls, which no client should do: this is the worst case. Calls have a
deadline, as calls of real clients do. Nobody uses an answer that comes after the deadline.

    make bench ARGS=overload
    .venv/bin/python -m benchmarks.overload --seconds 5 --deadline 300
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.console.connection import Target, channel_to
from session_authority.runtime.addresses import Listen
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

_COMMAND = (sys.executable, "-c", "from session_authority.cli import main; main()")
_METHOD = "/session_authority.v1.SessionAuthorityService/ValidateSession"
_CONNECTIONS = 8
_AT_ONCE = (1, 2, 4, 8)
_TIMES = 10
_HEALTH_PAUSE_SECONDS = 0.1
_COUNT = re.compile(
    r'^grpc_server_handled_total\{grpc_code="OK",grpc_method="ValidateSession".*\} (\S+)$',
    re.MULTILINE,
)


@dataclass
class Run:
    """The result of one load."""

    connections: int
    at_once: int
    good_per_second: float
    asked_per_second: float
    memory_mib: int
    health: list[float | str]

    def line(self, peak: float | None = None) -> str:
        """Formats the result, compared with the peak if one is given."""
        waits = sorted(wait for wait in self.health if isinstance(wait, float))
        failed = [code for code in self.health if isinstance(code, str)]
        health = f"health asked {len(self.health)} ×, " + (
            f"FAILED {failed}" if failed else f"≤ {waits[-1] * 1000:.0f} ms"
        )
        ratio = "" if peak is None else f" = {self.good_per_second / peak:4.0%} of the peak"
        return (
            f"{self.connections:3} connections × {self.at_once:3}: {self.good_per_second:5.0f}"
            f" good/s{ratio}, {self.asked_per_second:6.0f} ended/s, {self.memory_mib} MiB, {health}"
        )


class Bench:
    """A server under load."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        address: str,
        metrics: str,
        body: Path,
        deadline_ms: int,
    ) -> None:
        self._process = process
        self._address = address
        self._metrics = metrics
        self._body = body
        self._deadline_ms = deadline_ms

    def run(self, connections: int, at_once: int, seconds: float) -> Run:
        """Runs h2load for some seconds and returns the result."""
        before, began = self._good(), time.monotonic()
        load = subprocess.Popen(
            [
                *(
                    "h2load",
                    "-t",
                    "1",
                    "-c",
                    str(connections),
                    "-m",
                    str(at_once),
                    "-D",
                    f"{seconds:g}",
                ),
                *(
                    "-d",
                    str(self._body),
                    "-H",
                    "content-type: application/grpc",
                    "-H",
                    "te: trailers",
                ),
                *("-H", f"grpc-timeout: {self._deadline_ms}m", f"http://{self._address}{_METHOD}"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        health: list[float | str] = []
        memory = 0
        with channel_to(Target(Listen.parse(self._address))) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while load.poll() is None:
                health.append(_ask(stub))
                memory = max(memory, self._memory_mib())
                time.sleep(_HEALTH_PAUSE_SECONDS)
        good, lasted = self._good() - before, time.monotonic() - began
        assert load.stdout is not None
        ended = re.search(r"requests: \d+ total, \d+ started, (\d+) done", load.stdout.read())
        assert ended is not None
        return Run(connections, at_once, good / lasted, int(ended[1]) / lasted, memory, health)

    def _good(self) -> float:
        with urllib.request.urlopen(f"http://{self._metrics}/metrics") as answer:
            found = _COUNT.search(answer.read().decode())
        return float(found[1]) if found else 0.0

    def _memory_mib(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self._process.pid}/status").read_text())
        return int(found[1]) // 1024 if found else 0


def _ask(stub: Any) -> float | str:
    began = time.monotonic()
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.RpcError as error:
        return str(error.code().name)
    return time.monotonic() - began


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def bench(deadline_ms: int) -> Iterator[Bench]:
    """Starts a development server with a signed-in user, whose session is validated."""
    with tempfile.TemporaryDirectory() as folder:
        address, metrics = (f"127.0.0.1:{_free_port()}" for _ in range(2))
        process = subprocess.Popen(
            [*_COMMAND, "dev", "--listen", address, "--data-dir", f"{folder}/data"],
            env={
                **os.environ,
                "SESSION_AUTHORITY_METRICS_LISTEN": metrics,
                "SESSION_AUTHORITY_LOG_LEVEL": "error",
            },
            stdout=subprocess.DEVNULL,
        )
        try:
            with channel_to(Target(Listen.parse(address))) as channel:
                stub = pb_grpc.SessionAuthorityServiceStub(channel)
                issued = stub.IssueDevice(
                    pb.IssueDeviceRequest(user_id="ada"), timeout=30, wait_for_ready=True
                )
            request = pb.ValidateSessionRequest(
                access_token=issued.access_token, device_id=issued.device.device_id
            )
            message = request.SerializeToString()
            body = Path(folder) / "body"
            # the message with gRPC's prefix
            body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
            yield Bench(process, address, metrics, body, deadline_ms)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def main() -> None:
    """Runs all loads and prints their results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load lasts")
    parser.add_argument("--deadline", type=int, default=300, help="what each call has, in ms")
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        parser.error("there is no h2load; install the package nghttp2-client")

    def show(title: str, run: Run, peak: float | None = None) -> None:
        sys.stdout.write(f"{title:22} {run.line(peak)}\n")
        sys.stdout.flush()

    with bench(arguments.deadline) as server:
        server.run(_CONNECTIONS, 1, 1.0)  # a warm-up
        runs = [server.run(_CONNECTIONS, at_once, arguments.seconds) for at_once in _AT_ONCE]
        for run in runs:
            show("more and more", run)
        best = max(runs, key=lambda run: run.good_per_second)
        peak = best.good_per_second
        most = max(_AT_ONCE)
        for _ in range(2):
            show(
                f"{_TIMES} × on each",
                server.run(_CONNECTIONS, _TIMES * most, arguments.seconds),
                peak,
            )
            show(
                "and at once after it",
                server.run(_CONNECTIONS, best.at_once, arguments.seconds),
                peak,
            )
        show(
            f"{_TIMES} × the connections",
            server.run(_TIMES * _CONNECTIONS, most, arguments.seconds),
            peak,
        )
        show(
            "and at once after it", server.run(_CONNECTIONS, best.at_once, arguments.seconds), peak
        )


if __name__ == "__main__":
    main()
