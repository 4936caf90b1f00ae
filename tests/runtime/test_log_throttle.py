"""A throttle lets one line of each kind through in an interval, and remembers only a few kinds."""

from __future__ import annotations

from session_authority.runtime.logs import LogThrottle


def test_one_line_of_a_kind_passes_in_an_interval():
    throttle = LogThrottle(interval_seconds=1.0)
    assert [throttle.count("a", now) for now in (0.0, 0.5, 0.9, 1.0, 1.5)] == [
        0,
        None,
        None,
        2,
        None,
    ]
    assert throttle.count("b", 1.5) == 0


def test_kinds_that_callers_make_up_take_limited_memory():
    """A kind may contain a name that a client's certificate shows."""
    throttle = LogThrottle()
    for number in range(5000):
        assert throttle.count(f"unknown {number}", number) == 0
        throttle.count("known", number)
    assert len(throttle._kinds) <= 1024
    assert throttle.count("known", 5000.5) == 0
    assert throttle.count("known", 5000.6) is None
