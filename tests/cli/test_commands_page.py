"""docs/commands.md leaves no command out, and names no command or option that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from session_authority import cli

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")


def options(command: Any, path: str) -> dict[str, set[str]]:
    """Each command by its path, with its options."""
    found: dict[str, set[str]] = {}
    for name, inner in getattr(command, "commands", {}).items():
        found |= options(inner, f"{path} {name}".strip())
    if not found or getattr(command, "invoke_without_command", False):
        found[path] = {option for one in command.params for option in one.opts}
    return found


COMMANDS = options(typer.main.get_command(cli.app), "")


def described() -> dict[str, str]:
    """Each command that the first column names, with its row: `keys generate`, `list` names `keys
    list`, too.
    """
    rows = {}
    for row in re.findall(r"^\| `session-authority .*$", PAGE, re.MULTILINE):
        first, rest = re.findall(r"^\| (.*?) \| (.*) \|$", row)[0]
        path: list[str] = []
        for words in re.findall(r"`(?:session-authority )?([^`]+)`", first):
            names = [word for word in words.split() if word.islower()]
            path = names if path and names[0] == path[0] else [*path[:1], *names]
            rows[" ".join(path)] = rest
        inside = re.findall(r"`((?:[a-z]+ )?[a-z]+)`", rest)
        rows |= {f"{path[0]} {name}": rest for name in inside if f"{path[0]} {name}" in COMMANDS}
    return rows


def test_every_command_is_on_the_page():
    named = {name for name in described() if name in COMMANDS}
    assert set(COMMANDS) - {""} - named == set()


def test_the_page_names_no_other_command():
    groups = {name.rpartition(" ")[0] for name in COMMANDS}
    assert set(described()) - set(COMMANDS) - groups == set()


@pytest.mark.parametrize("name", described())
def test_the_page_names_no_option_that_the_command_lacks(name: str):
    root = name.split()[0]
    known = set().union(*(o for path, o in COMMANDS.items() if path.split()[:1] == [root]))
    shown = set(re.findall(r"(?<![\w-])--[a-z-]+", described()[name]))
    assert shown - known - {"--version"} == set()
