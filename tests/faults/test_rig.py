"""Runs of the rig: clients of all kinds on real servers, with faults of all kinds, and the checker
finds no violation.

A failure names its seed: FAULT_SEED repeats the acts, but not the moments of the answers.
FAULT_STAGES="standalone sentinel acknowledged cluster" plays on all of these stores. With
TEST_BUDGET=10 a run is ten times as long. `make soak` plays for an hour.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.checker import judge
from tests.faults.play import Script, play
from tests.faults.soak import STAGES
from tests.support.budget import budget

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("FAULT_SEED", "1"))
SECONDS = budget(30)
PLAYED = os.environ.get("FAULT_STAGES", "standalone").split()


@pytest.mark.parametrize("name", PLAYED)
async def test_every_promise_is_kept(name: str, tmp_path: Path) -> None:
    open_stage, troubles = STAGES[name]
    async with open_stage(tmp_path) as stage:
        history = await play(stage, Script(SEED, SECONDS, troubles))
    report = judge(history)
    assert [str(violation) for violation in report.violations] == [], f"seed {SEED}"
    assert history.may_lose or {found.check for found in report.lost} <= {"untold"}
    assert report.calls["ValidateSession ACTIVE"]
    assert report.calls["RevokeAll OK"]
    assert history.faults
