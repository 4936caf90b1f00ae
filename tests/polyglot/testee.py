"""A running testee: a test sends commands as JSON lines, and waits for the replies.
`clients/vectors/TESTEE.md` describes the lines.

One process serves many tests, as some processes take seconds to start. So a thread reads its lines,
and each test has its own `Testee`: names of clients that no other test uses, closed in the end.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from tests.polyglot.testees import Program

PATIENCE = 40.0  # Seconds, for a busy machine.
_STDERR_CHARACTERS = 4000


class Refused(Exception):
    """A command that ended with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(dict(error)))
        self.kind: str = error["kind"]
        self.code: str = error.get("code") or ""
        self.reason: str = error.get("reason") or ""
        self.retry_after_ms: float | None = error.get("retry_after_ms")
        self.violations: list[dict[str, str]] = error.get("violations") or []


class Command:
    """A command that runs. Await `reply()` for its reply, and `note()` for each note."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._notes: asyncio.Queue[Any] = asyncio.Queue()
        self._reply: asyncio.Future[Any] = self._loop.create_future()

    @property
    def done(self) -> bool:
        """True once the reply has arrived."""
        return self._reply.done()

    async def reply(self) -> Any:
        """The result of the command. Raises Refused."""
        try:
            async with asyncio.timeout(PATIENCE):
                told = await asyncio.shield(self._reply)
        except TimeoutError:
            raise AssertionError(f"no reply to {self._name} in {PATIENCE:g} s") from None
        if "error" in told:
            raise Refused(told["error"])
        return told["ok"]

    async def note(self) -> Any:
        """The next note. Raises Refused if the command failed before."""
        getting = asyncio.ensure_future(self._notes.get())
        await asyncio.wait(
            {getting, self._reply}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        if getting.done():
            return getting.result()
        getting.cancel()
        told = await self.reply()
        raise AssertionError(f"{self._name} ended without a note: {told}")

    def hear(self, line: Mapping[str, Any]) -> None:
        """Accepts a line that names this command, from any thread."""
        with suppress(RuntimeError):  # The test has ended.
            self._loop.call_soon_threadsafe(self._take, line)

    def _take(self, line: Mapping[str, Any]) -> None:
        if "note" in line:
            self._notes.put_nowait(line["note"])
        elif not self._reply.done():
            self._reply.set_result(line)


class Process:
    """The process of a testee, and the threads that read from it."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self._ids = count(1)
        self._under_way: dict[int, Command] = {}
        self.unexpected: list[Mapping[str, Any]] = []
        self.stderr = ""
        self._process = subprocess.Popen(
            program.command,
            cwd=program.folder,
            env=dict(program.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        ready: SimpleQueue[Any] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._drain, daemon=True),
            threading.Thread(target=self._listen, args=(ready,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            first = ready.get(timeout=PATIENCE)
        except Empty:
            first = "nothing"
        if not isinstance(first, dict) or "ready" not in first:
            self.kill()
            raise AssertionError(f"{self.name} did not start, it said {first}:\n{self.stderr}")
        self.commands: set[str] = set(first["commands"])

    @property
    def running(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    def begin(self, command: str, fields: Mapping[str, Any]) -> Command:
        """Sends a command."""
        number = next(self._ids)
        begun = self._under_way[number] = Command(command)
        self.send(json.dumps({"id": number, "command": command, **fields}))
        return begun

    def send(self, line: str) -> None:
        """Sends a line unchanged."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> int | None:
        """Closes standard input. Returns the exit status, or None if the testee had to be
        killed.
        """
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            status: int | None = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        return status

    def kill(self) -> None:
        """Ends the process at once if it still runs, and ends the threads that read from it."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _listen(self, ready: SimpleQueue[Any]) -> None:
        assert self._process.stdout
        ready.put(_object_of(self._process.stdout.readline()))
        for text in self._process.stdout:
            line = _object_of(text)
            if isinstance(line, str):
                self.unexpected.append({"no JSON object": line})
                continue
            number: Any = line.get("id")
            command = self._under_way.get(number)
            if command is None:
                self.unexpected.append(line)
                continue
            if "note" not in line:
                del self._under_way[number]
            command.hear(line)
        for command in list(self._under_way.values()):
            command.hear({"error": {"kind": "gone", "message": f"{self.name} ended"}})

    def _drain(self) -> None:
        assert self._process.stderr
        for text in self._process.stderr:
            self.stderr = (self.stderr + text)[-_STDERR_CHARACTERS:]


def _object_of(text: str) -> dict[str, Any] | str:
    """The JSON object in a line, or the line as it is."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, dict) else text


_tests = count(1)


class Testee:
    """The testee as one test sees it. Use it as a context manager."""

    __test__ = False

    def __init__(self, process: Process) -> None:
        self.process = process
        self.name = process.name
        self._test = next(_tests)
        self.clients: list[str] = []  # Clients that must be closed.

    async def __aenter__(self) -> Testee:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.running:
            for client in self.clients:
                await self.do("close", client=client)
        unexpected, self.process.unexpected = self.process.unexpected, []
        if error is None:
            assert self.process.running, f"{self.name} ended by itself:\n{self.process.stderr}"
            assert unexpected == [], f"{self.name} sent what no command awaits: {unexpected}"
        elif self.process.stderr:
            error.add_note(f"{self.name} said:\n{self.process.stderr}")

    def begin(self, command: str, **fields: Any) -> Command:
        """Sends a command. The names of clients are this test's own."""
        if "client" in fields:
            fields["client"] = f"{self._test}/{fields['client']}"
        return self.process.begin(command, fields)

    async def do(self, command: str, **fields: Any) -> Any:
        """Sends a command, and returns its reply. Raises Refused."""
        return await self.begin(command, **fields).reply()
