"""What the memory benchmark computes from its samples of a server's memory."""

from __future__ import annotations

import pytest

from benchmarks.memory import Samples

MINUTES = 20
# One sample every ten seconds. The memory rises and falls by one MiB within each minute.
SAWTOOTH = [0, 300, 600, 1024, 500, 100]


def samples(grows_kib_per_minute: float, warms_up_kib: int = 0) -> Samples:
    taken = []
    for number in range(MINUTES * len(SAWTOOTH)):
        minutes = number / len(SAWTOOTH)
        warm = min(minutes, 5) / 5 * warms_up_kib
        kib = 120_000 + warm + grows_kib_per_minute * minutes + SAWTOOTH[number % len(SAWTOOTH)]
        taken.append((60 * minutes, int(kib)))
    return Samples(taken)


@pytest.mark.parametrize("grows", [0, 500, -200])
@pytest.mark.parametrize("warms_up", [0, 8000])
def test_the_slope_is_that_of_a_warm_server(grows: float, warms_up: int):
    """The slope depends neither on the warm-up nor on the rise and fall within each minute."""
    assert samples(grows, warms_up).slope_kib_per_minute() == pytest.approx(grows, abs=16)


def test_each_minute_has_its_median():
    minutes = samples(600).minutes()
    assert len(minutes) == MINUTES
    assert minutes[0] == pytest.approx(117.8, abs=0.2)
    assert minutes[-1] - minutes[0] == pytest.approx(600 * (MINUTES - 1) / 1024, abs=0.2)
