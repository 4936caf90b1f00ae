"""A testee that runs: commands go to it as JSON lines, and its replies come back to who waits for
them. `clients/vectors/TESTEE.md` describes the lines.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import count
from types import TracebackType
from typing import Any

from tests.polyglot.testees import Program

PATIENCE = 40.0  # seconds, for a machine that has much else to do
_LINE_BYTES = 1 << 24


class Refused(Exception):
    """A command that ended with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(dict(error)))
        self.kind: str = error["kind"]
        self.code: str = error.get("code", "")
        self.reason: str = error.get("reason", "")
        self.retry_after_ms: float | None = error.get("retry_after_ms")
        self.violations: list[dict[str, str]] = error.get("violations", [])


class Command:
    """A command that is under way. Await `reply()`, and `note()` for each note."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._notes: asyncio.Queue[Any] = asyncio.Queue()
        self._reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def done(self) -> bool:
        """True once the reply is there."""
        return self._reply.done()

    async def reply(self) -> Any:
        """What the command came to. Raises Refused."""
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
        """Takes a line that names this command."""
        if "note" in line:
            self._notes.put_nowait(line["note"])
        elif not self._reply.done():
            self._reply.set_result(line)


class Testee:
    """The process. Use it as a context manager."""

    __test__ = False

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self._program = program
        self._ids = count(1)
        self._under_way: dict[int, Command] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.unexpected: list[Mapping[str, Any]] = []
        self.commands: set[str] = set()
        self.stderr = b""

    async def __aenter__(self) -> Testee:
        self._process = await asyncio.create_subprocess_exec(
            *self._program.command,
            cwd=self._program.folder,
            env=dict(self._program.environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        self._tasks.append(asyncio.create_task(self._drain()))
        async with asyncio.timeout(PATIENCE):
            first = await self._line()
        assert first is not None, f"{self.name} ended: {self.stderr.decode(errors='replace')}"
        assert "ready" in first, first
        self.commands = set(first["commands"])
        self._tasks.append(asyncio.create_task(self._listen()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended = await self.end()
        if error is not None:
            if self.stderr:
                error.add_note(f"{self.name} said:\n{self.stderr.decode(errors='replace')[-4000:]}")
            return
        assert ended == 0, f"{self.name} ended with {ended}: {self.stderr.decode()}"
        assert self.unexpected == []

    async def end(self) -> int | None:
        """Ends standard input. Returns the exit status, or None if the testee had to be killed."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                status: int | None = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            status = None
        await asyncio.gather(*self._tasks)
        return status

    def begin(self, command: str, **fields: Any) -> Command:
        """Sends a command."""
        number = next(self._ids)
        begun = self._under_way[number] = Command(command)
        self.send({"id": number, "command": command, **fields})
        return begun

    async def do(self, command: str, **fields: Any) -> Any:
        """Sends a command, and returns its reply. Raises Refused."""
        return await self.begin(command, **fields).reply()

    def send(self, line: object) -> None:
        """Sends a line as it is."""
        assert self._process.stdin
        text = line if isinstance(line, str) else json.dumps(line)
        self._process.stdin.write(text.encode() + b"\n")

    async def _line(self) -> dict[str, Any] | None:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            return None
        told: dict[str, Any] = json.loads(line)
        return told

    async def _listen(self) -> None:
        while (line := await self._line()) is not None:
            command = self._under_way.get(line.get("id") or 0)
            if command is None:
                self.unexpected.append(line)
            else:
                command.hear(line)
        for command in self._under_way.values():
            gone = {"kind": "gone", "message": f"{self.name} ended"}
            command.hear({"error": gone})

    async def _drain(self) -> None:
        assert self._process.stderr
        while said := await self._process.stderr.read(1 << 16):
            self.stderr += said
