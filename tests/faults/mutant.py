"""A broken service: the edits that break it, and the check that finds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that a file has exactly once, and its replacement in the broken service."""

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
    """The faults that must be made for the mutant to be noticed. Empty if the mutant is also wrong
    without faults.
    """
    seconds: int = 12
    """The seconds of each run."""
    campaign: str = ""
    """The campaign that finds the mutant, if runs don't find it. `found_by` then has this name."""


def edited(text: str, edit: Edit) -> str:
    """The text of the file after the edit. Raises ValueError if the file no longer has the text."""
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.path} has {text.count(edit.old)} times: {edit.old!r}")
    return text.replace(edit.old, edit.new)
