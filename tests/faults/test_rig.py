"""Runs of the rig: clients of all kinds on real servers, everything goes wrong, and the checker
finds nothing.

A failure names its seed: FAULT_SEED repeats what was done, though not the moments of the answers.
TEST_BUDGET=10 plays ten times as long; `make soak` plays for hours.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.checker import judge
from tests.faults.play import Script, play
from tests.faults.stage import standalone
from tests.faults.troubles import STANDALONE
from tests.support.budget import budget

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("FAULT_SEED", "1"))
SECONDS = budget(30)


async def test_every_promise_is_kept_on_one_primary(tmp_path: Path) -> None:
    async with standalone(tmp_path) as stage:
        history = await play(stage, Script(SEED, SECONDS, STANDALONE))
    report = judge(history)
    assert [str(violation) for violation in report.violations] == [], f"seed {SEED}"
    assert report.lost == []
    assert report.calls["ValidateSession ACTIVE"]
    assert report.calls["RevokeAll OK"]
    assert history.faults
