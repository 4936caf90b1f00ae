"""What a broken service is: the edits that break it, and what finds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of a file, which is there once, and what stands there in the broken service."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken service."""

    name: str
    edits: tuple[Edit, ...]
    found_by: frozenset[str]
    troubles: str = ""
    """What it takes to be seen; nothing, if it is wrong on a good day, too."""
    seconds: int = 12
    """Of each run."""
    campaign: str = ""
    """The campaign that finds it, if it takes one: then `found_by` names the same."""


def edited(text: str, edit: Edit) -> str:
    """The text of the file after the edit. Raises ValueError if the code is no longer so."""
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.path} has {text.count(edit.old)} times: {edit.old!r}")
    return text.replace(edit.old, edit.new)
