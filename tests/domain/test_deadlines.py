"""The part of a caller's deadline that the service may use for its work."""

from __future__ import annotations

import pytest

from session_authority.domain.deadlines import seconds_to_work


@pytest.mark.parametrize(
    ("left_ms", "work_ms"),
    [
        (-1, -11),
        (0, -10),
        (10, 0),
        (20, 10),
        (50, 40),
        (100, 80),
        (1000, 800),
        # At most a quarter of a second is kept back.
        (1250, 1000),
        (2000, 1750),
        (10_000, 9750),
    ],
)
def test_a_part_of_the_deadline_is_kept_back_for_the_answer(left_ms: int, work_ms: int) -> None:
    assert seconds_to_work(left_ms / 1000) == pytest.approx(work_ms / 1000)
