"""Each user agent of the corpus is shown as its line says."""

from __future__ import annotations

import pytest

from session_authority.domain.appearance import appearance
from session_authority.domain.fields import cut_user_agent
from tests.appearances.corpus import Line, lines

LINES = lines("agents.txt")


def shown(line: Line) -> tuple[str, ...]:
    """The form factor, name, system, browser and model that the service shows."""
    looks = appearance(cut_user_agent(line.user_agent))
    return (
        looks.form_factor.name,
        *(looks.name, looks.operating_system, looks.browser, looks.model),
    )


@pytest.mark.parametrize(
    "line", [line for line in LINES if not line.is_known_fault], ids=lambda line: line.where
)
def test_a_user_agent_is_shown_as_its_line_says(line: Line):
    assert shown(line) == line.expected


def test_the_known_faults_are_still_faults_and_few():
    known = [line for line in LINES if line.is_known_fault]
    assert [line.where for line in known if shown(line) == line.expected] == []
    assert len(known) <= 0.05 * len(LINES)


def test_the_corpus_is_large_and_repeats_nothing():
    agents = [line.user_agent for line in LINES]
    assert len(agents) >= 400
    assert len(set(agents)) == len(agents)
