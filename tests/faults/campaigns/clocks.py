"""Servers whose clock is set while they run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.campaigns.played import playing
from tests.faults.stage import ServerProcess, Stage, standalone
from tests.faults.troubles import Trouble
from tests.support.commands import Command

# The command, with a clock that is as far off as a file says.
_PROGRAM = """\
import pathlib, sys
from datetime import timedelta
import session_authority.runtime.clock as clock
right, offset = clock.now, pathlib.Path(sys.argv.pop(1))
clock.now = lambda: right() + timedelta(seconds=float(offset.read_text()))
from session_authority.cli import main
main()
"""
_RIGHT = "0"


class _ClockedCommand(Command):
    """The command with a clock that can be set."""

    def _started(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        out: int,
        err: int,
    ) -> subprocess.Popen[bytes]:
        offset = folder / "offset"
        offset.write_text(_RIGHT)
        command = [sys.executable, "-c", _PROGRAM, str(offset), *arguments]
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


class ClockedServer(ServerProcess):
    """`serve` with a clock that can be set."""

    def _serve(self) -> Command:
        return _ClockedCommand(self._folder, ["serve"], self._settings)

    def set_clock(self, ahead_seconds: str) -> None:
        """Sets the clock this far ahead."""
        new = self._folder / "new"
        new.write_text(ahead_seconds)
        new.replace(self._folder / "offset")


async def clock_set(stage: Stage, random: Random) -> None:
    """One server's clock is wrong by more than the limit, in either direction, and then right
    again.
    """
    server = random.choice(stage.servers)
    assert isinstance(server, ClockedServer)
    ahead = random.choice((-1, 1)) * random.choice((6, 20, 100, 4_000, 100_000))
    server.set_clock(str(ahead))
    await asyncio.sleep(random.uniform(0.2, 2))
    server.set_clock(_RIGHT)


skewed_clocks = playing(partial(standalone, process=ClockedServer), Trouble(clock_set))
