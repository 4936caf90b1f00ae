"""Every mutant can be made from the present code, and names existing checks. `make mutants` tests
whether the rig finds them.
"""

from __future__ import annotations

import ast

import pytest

from tests.faults.campaigns.catalogue import CAMPAIGNS
from tests.faults.checker import CHECKS
from tests.faults.mutant import Edit, Mutant, edited
from tests.faults.mutants import MUTANTS, ROOT
from tests.faults.troubles import STANDALONE


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    for edit in mutant.edits:
        text = edited((ROOT / edit.path).read_text(), edit)
        if edit.path.endswith(".py"):
            ast.parse(text)
    assert mutant.found_by
    finders = {campaign.name for campaign in CAMPAIGNS} if mutant.campaign else set(CHECKS)
    assert mutant.found_by <= finders
    assert {name for name in mutant.troubles.split(",") if name} <= set(STANDALONE)


def test_an_edit_of_other_code_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.py has 2 times: 'x'"):
        edited("x x", Edit("a.py", "x", "y"))
