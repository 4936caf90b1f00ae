"""The clock that judges calls is right, even if the process was paused while it read clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from session_authority.processes.readiness import MAX_CLOCK_SKEW, Readiness
from session_authority.runtime.clock import SteadyClock, now

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTED_AT_SECONDS = NOON.timestamp() - 3600


class Machine:
    """The machine's clocks stand still, with a pause before one of their readings."""

    def __init__(self, pause_seconds: int, look: int) -> None:
        self.uptime_seconds = 3600
        self._pause_seconds = pause_seconds
        self._looks_before = look

    def look(self) -> int:
        """How long the machine has run, in seconds."""
        if self._looks_before == 0:
            self.uptime_seconds += self._pause_seconds
        self._looks_before -= 1
        return self.uptime_seconds

    @property
    def was_paused(self) -> bool:
        return self._looks_before < 0


def noted_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[Readiness, SteadyClock]:
    """Reads the clocks of this machine, and notes the time that the primary sent."""
    monkeypatch.setattr(time, "clock_gettime", lambda _: float(machine.look()))
    monkeypatch.setattr(
        time, "time_ns", lambda: int(STARTED_AT_SECONDS + machine.look()) * 1_000_000_000
    )
    steady = SteadyClock()
    readiness = Readiness(found_right=steady.found_right)
    readiness.note_clocks(now(), [NOON])
    return readiness, steady


@pytest.mark.parametrize("pause_seconds", [4, 60, 100_000])
def test_a_pause_while_the_clocks_are_read_sets_no_clock_wrong(
    pause_seconds: int, monkeypatch: pytest.MonkeyPatch
):
    look, paused = 0, True
    while paused:
        machine = Machine(pause_seconds, look)
        readiness, steady = noted_on(machine, monkeypatch)
        paused = machine.was_paused
        assert abs(steady() - now()) <= MAX_CLOCK_SKEW, f"a pause before look {look}"
        if paused and pause_seconds > MAX_CLOCK_SKEW.total_seconds():
            assert steady() == now(), f"a pause before look {look}"
        assert paused or readiness.fault() is None
        look += 1
    assert look > 2
