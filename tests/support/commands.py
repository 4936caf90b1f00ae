"""The real command in a process of its own, with its output and its logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import grpc
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.console.connection import Target, channel_to
from session_authority.runtime.addresses import Listen
from session_authority.store.embedded import EmbeddedValkey
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.support.fork_server import ROOT, ForkedProcess, start_command
from tests.support.waiting import wait_for

COMMAND = [sys.executable, "-c", "from session_authority.cli import main; main()"]
PATIENCE = 40.0  # Seconds; for a process to start or end on a busy machine.


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The test's environment, without settings of the service except the acceptor that the test
    runs with. `settings` are named without their prefix.
    """
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SESSION_AUTHORITY_") or name == "SESSION_AUTHORITY_ACCEPTOR"
    }
    mine = {f"SESSION_AUTHORITY_{name}": value for name, value in settings.items()}
    return {
        **clean,
        **mine,
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(folder),
        "COLUMNS": "200",
        "TERM": "dumb",
    }


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = start_command(
            arguments, folder, environment(folder, **settings), out.fileno(), err.fileno()
        )
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


class Command:
    """A running command. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, folder: Path, arguments: Sequence[str], settings: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.log")))
        self._out, self._err = folder / f"out-{number}.txt", folder / f"err-{number}.log"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = self._started(
                arguments, folder, environment(folder, **settings), out.fileno(), err.fileno()
            )

    def _started(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        out: int,
        err: int,
    ) -> ForkedProcess | subprocess.Popen[bytes]:
        """Starts the process; a subclass may start another program."""
        return start_command(arguments, folder, environment, out, err)

    @property
    def printed(self) -> str:
        """Standard output."""
        return self._out.read_text()

    @property
    def errors(self) -> str:
        """Standard error."""
        return self._err.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log, entry by entry."""
        return [
            json.loads(line)
            for line in self.errors.splitlines()
            if line.startswith("{") and line.endswith("}")
        ]

    def events(self) -> list[str]:
        """The names of the log entries."""
        return [entry["event"] for entry in self.log]

    def wait(self) -> int:
        """Waits for the end. Returns the exit code."""
        return self.process.wait(PATIENCE)

    def wait_for_event(self, event: str, count: int = 1) -> dict[str, Any]:
        """Waits until this event was logged this often. Returns the last entry."""

        def logged() -> bool:
            assert self.process.poll() is None or self.events().count(event) >= count, self.errors
            return self.events().count(event) >= count

        wait_for(logged, f"{event!r} to be logged", PATIENCE)
        return [entry for entry in self.log if entry["event"] == event][-1]

    def terminate(self) -> int:
        """Ends the process by SIGTERM. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kills the process and all processes of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


class DevServer(Command):
    """`session-authority dev` on a data folder."""

    def __init__(self, data_dir: Path, listen: str = "127.0.0.1:0", **settings: str) -> None:
        self.data_dir = data_dir
        folder = data_dir.with_name(data_dir.name + ".run")
        super().__init__(folder, ["dev", "--listen", listen, "--data-dir", str(data_dir)], settings)
        try:
            self.address: str = self.wait_for_event("listening")["address"]
        except BaseException:
            self.kill()
            raise

    @property
    def valkey_process_id(self) -> int:
        """The process ID of its Valkey."""
        with redis.Redis(
            unix_socket_path=EmbeddedValkey(self.data_dir).url.removeprefix("unix://")
        ) as client:
            return int(client.info("server")["process_id"])


@contextmanager
def dev_server(data_dir: Path, listen: str = "127.0.0.1:0", **settings: str) -> Iterator[DevServer]:
    """A dev server that runs inside the block. At the end its remaining processes are killed."""
    server = DevServer(data_dir, listen, **settings)
    try:
        yield server
    finally:
        server.kill()


class Caller:
    """A client with a connection of its own."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address = address
        self.channel = channel_to(Target(Listen.parse(address), token=token))
        self.stub: Any = pb_grpc.SessionAuthorityServiceStub(self.channel)
        self.health_stub: Any = health_pb2_grpc.HealthStub(self.channel)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def sign_in(self, user_id: str = "ada", **more: Any) -> pb.IssueDeviceResponse:
        """Signs in."""
        request = pb.IssueDeviceRequest(user_id=user_id, **more)
        answer: pb.IssueDeviceResponse = self.stub.IssueDevice(
            request, timeout=PATIENCE, wait_for_ready=True
        )
        return answer

    def status(self, signed_in: pb.IssueDeviceResponse) -> str:
        """The status of a sign-in's token."""
        request = pb.ValidateSessionRequest(
            access_token=signed_in.access_token, device_id=signed_in.device.device_id
        )
        answer = self.stub.ValidateSession(request, timeout=PATIENCE, wait_for_ready=True)
        return pb.SessionStatus.Name(answer.status).removeprefix("SESSION_STATUS_")

    def health(self) -> str:
        """What the server answers about its health, or the code of the error."""
        try:
            answer = self.health_stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        except grpc.RpcError as error:
            return str(error.code().name)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def is_running(process_id: int) -> bool:
    """Returns whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def descendants(process_id: int) -> list[int]:
    """The processes that this process started, and all processes that those started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process_id:
            child = int(stat.parent.name)
            found += [child, *descendants(child)]
    return found
