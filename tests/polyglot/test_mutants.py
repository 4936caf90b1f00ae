"""Each broken rule can be made from the present clients, and names existing scenarios.
`python -m tests.polyglot.mutants` tests that the scenarios notice them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.polyglot.broken import BROKEN, Broken
from tests.polyglot.testees import CLIENTS

HERE = Path(__file__).parent


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.client}: {broken.rule}")
def test_a_broken_rule_can_be_tried(broken: Broken):
    text = (CLIENTS / broken.client / broken.file).read_text()
    assert text.count(broken.old) == 1
    file, _, expression = broken.scenarios.partition(" ")
    scenarios = re.findall(r"def (test_\w+)", (HERE / file).read_text())
    wanted = expression.split(" and ")[0]
    assert any(wanted in name for name in scenarios), f"no scenario has {wanted!r}"
