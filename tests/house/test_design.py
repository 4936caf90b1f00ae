"""docs/design.md has the same layers and keys in Redis as the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from uuid import UUID

from session_authority.domain.events import EventType
from session_authority.store.key_names import TAGS, KeyNames

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/design.md").read_text()


def rows_below(heading: str) -> list[str]:
    """The rows of the table in a section, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_the_layers_on_the_page_are_those_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [layers] = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["id"] == "layers"
    ]
    told = [re.findall(r"`(\w+)`", row.split("|")[2]) for row in rows_below("The layers")]
    assert told == [layer.split(" | ") for layer in layers]


def test_the_keys_in_redis_on_the_page_are_those_of_the_code():
    names, user, endpoint = KeyNames(), "<user>", "<endpoint>"
    made = [
        names.sessions(user),
        names.devices(user),
        names.claims(user),
        names.request(user, UUID(int=1)),
        names.told(user, bytes(16), EventType.ENDED_TOKEN_PRESENTED),
        names.told_of_key("<kid>"),
        names.told_of_removed_key("<kid>"),
        names.stream(0),
        names.lease(0, endpoint),
        names.attempts(0, endpoint),
        names.dead_letters(0, endpoint),
        names.relays(endpoint),
        names.probe,
        names.probe_in(0),
        names.wake_channel,
    ]
    tags = re.compile("|".join(re.escape(f"{{{tag}}}") for tag in TAGS))
    shapes = {re.sub(r"<(digest|session|kind)>", "*", key) for key in _told_keys()}
    assert {_shape(tags.sub("{p}", key)) for key in made} == shapes


def _told_keys() -> list[str]:
    return [
        key
        for row in rows_below("State in Redis")
        for key in re.findall(r"`(sa:[^`]+)`", row.split("|")[1])
    ]


def _shape(key: str) -> str:
    """A key with stars in place of computed parts."""
    key = re.sub(r":[0-9a-f]{32}(?=:|$)", ":*", key)
    return re.sub(r"(:x:\*):\w+", r"\1:*", key)
