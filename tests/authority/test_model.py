"""In any life and on any store, the service does what the design's model says."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from session_authority.tokens import KeySource
from tests.authority.lives import Lives
from tests.support.backends import Backend
from tests.support.budget import budget

pytestmark = pytest.mark.slow

EXAMPLES = {"fakeredis": budget(100), "valkey": budget(167)}
# Rows that every exploration must reach: without them it would prove less than it seems to.
ROWS = {
    "token over",
    "none",
    "over",
    "over, as SESSION_TTL is lower",
    "current",
    "kept answer",
    "superseded_token",
    "ahead",
    "replaced, late",
    "sign-in",
    "sign-in, replacing",
    "request_id, again",
    "request_id, other contents",
    "request_id, spent",
    "another copy",
    "another copy, dated anew",
    "no renewal of current",
    "renewal of current",
    "revoke all",
    "list",
    "writes lost",
}


def test_the_service_does_what_the_design_says(stage: Backend, source: KeySource) -> None:
    rows: Counter[str] = Counter()

    class LivesHere(Lives):
        def __init__(self) -> None:
            super().__init__(stage, source, rows)

    for _ in range(5):
        run_state_machine_as_test(
            LivesHere,
            settings=settings(
                max_examples=EXAMPLES[stage.name],
                stateful_step_count=30,
                derandomize=False,
                print_blob=True,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        if rows.keys() >= ROWS:
            break
    assert ROWS - rows.keys() == set()
