"""Each client of the corpora, with hints or without, is shown as its line says."""

from __future__ import annotations

import pytest

from session_authority.domain.appearances.appearance import appearance
from session_authority.domain.clients import Client
from session_authority.domain.fields import cut_user_agent
from tests.appearances.corpus import Line, lines

LINES = [*lines("agents.txt"), *lines("hints.txt")]


def shown(line: Line) -> tuple[str, ...]:
    """The form factor, name, system, browser and model that the service shows."""
    client = Client(user_agent=cut_user_agent(line.user_agent), hints=line.hints)
    looks = appearance(client)
    return (
        looks.form_factor.name,
        *(looks.name, looks.operating_system, looks.browser, looks.model),
    )


@pytest.mark.parametrize(
    "line", [line for line in LINES if not line.is_known_fault], ids=lambda line: line.where
)
def test_a_client_is_shown_as_its_line_says(line: Line):
    assert shown(line) == line.expected


def test_the_known_faults_are_still_faults_and_few():
    known = [line for line in LINES if line.is_known_fault]
    assert [line.where for line in known if shown(line) == line.expected] == []
    assert len(known) <= 0.05 * len(LINES)


def test_the_corpora_are_large_and_repeat_nothing():
    clients = [(line.user_agent, line.hints) for line in LINES]
    assert len(clients) >= 500
    assert len(set(clients)) == len(clients)
