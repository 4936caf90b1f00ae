"""A server whose answers a test decides: it receives commands, and sends what the test lets it
send.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import hiredis

from tests.support.waiting import eventually


class Received:
    """Commands that arrived together, by their last words, and the connection for their answers."""

    def __init__(self, commands: list[str], writer: asyncio.StreamWriter) -> None:
        self.commands = commands
        self.writer = writer

    def answer(self, **instead: bytes) -> None:
        """Answers each command with its own text, or sends these bytes instead."""
        self.writer.write(b"".join(instead.get(one, answer_to(one)) for one in self.commands))

    def say(self, data: bytes) -> None:
        """Sends what the test wants."""
        self.writer.write(data)

    def hang_up(self) -> None:
        """Closes the connection."""
        self.writer.close()


def answer_to(command: str) -> bytes:
    """The reply that belongs to a command."""
    text = f"answer to {command}".encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


class ScriptedServer:
    """Listens on a free port. `received` has the commands that arrived, without the proofs that new
    connections request. `refusal` answers a proof, and `proofs_held` leaves it without an answer.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.open = self.most_open = 0
        self.refusal = b":0\r\n"
        self.proofs_held = False
        self.unproven: list[asyncio.StreamWriter] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def release_proof(self) -> None:
        """Answers the oldest proof that was held."""
        self.unproven.pop(0).write(self.refusal)

    def release_proofs(self) -> None:
        """Answers the proofs that were held, and the proofs that follow."""
        self.proofs_held = False
        for writer in self.unproven:
            writer.write(self.refusal)

    def hang_up_unproven(self) -> None:
        """Closes the connections whose proofs were held, and answers the proofs that follow."""
        self.proofs_held = False
        for writer in self.unproven:
            writer.close()

    async def arrived(self, number: int) -> Received:
        """Waits for this many batches. Returns the last one."""
        await eventually(lambda: len(self.received) >= number, f"{number} batches to arrive")
        assert len(self.received) == number, [one.commands for one in self.received]
        return self.received[number - 1]

    @property
    def url(self) -> str:
        """The URL of this server."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        requests = hiredis.Reader()
        try:
            while data := await reader.read(1 << 20):
                requests.feed(data)
                commands = []
                while command := requests.gets():
                    if command[0] != b"DEL":
                        commands.append(command[-1].decode())
                    elif self.proofs_held:
                        self.unproven.append(writer)
                    else:
                        writer.write(self.refusal)
                if commands:
                    self.received.append(Received(commands, writer))
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()
