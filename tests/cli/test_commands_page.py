"""docs/commands.md lists every command, and no page names a command or an option that does not
exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from session_authority import cli
from tests.support.shells import blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
TARGETS = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
# A command line: the command, its words and options, up to the next pipe or other operator.
_LINE = re.compile(
    r"(?<![\w./-])(?:\S*/bin/)?(session-authority|make)"
    r"(?= +(?:--)?[a-z-]+(?:\s|$|\)))((?: +(?!\$\()[^\s|;&)]+)+)"
)


def options(command: Any, path: str) -> dict[str, set[str]]:
    """Returns the options of each command, by the command's path."""
    found: dict[str, set[str]] = {}
    for name, inner in getattr(command, "commands", {}).items():
        found |= options(inner, f"{path} {name}".strip())
    if not found or getattr(command, "invoke_without_command", False):
        found[path] = {option for one in command.params for option in one.opts}
    return found


COMMANDS = options(typer.main.get_command(cli.app), "")


def described() -> dict[str, str]:
    """Returns each command that the first column names, with the rest of its row.

    The names `keys generate`, `list` stand for `keys generate` and `keys list`.
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


def test_the_page_names_no_unknown_command():
    groups = {name.rpartition(" ")[0] for name in COMMANDS}
    assert set(described()) - set(COMMANDS) - groups == set()


@pytest.mark.parametrize("name", described())
def test_the_page_names_no_option_that_the_command_lacks(name: str):
    root = name.split()[0]
    known = set().union(*(o for path, o in COMMANDS.items() if path.split()[:1] == [root]))
    shown = set(re.findall(r"(?<![\w-])--[a-z-]+", described()[name]))
    assert shown - known - {"--version"} == set()


def lines(name: str) -> list[tuple[str, list[str]]]:
    """Returns each call of the program in the shell blocks of all pages, with the name of its
    page.
    """
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("clients/*/*.md")]
    return [
        (page.relative_to(ROOT).as_posix(), words.split())
        for page in sorted(pages)
        for block in blocks(page.read_text("utf-8"))
        for program, words in _LINE.findall(block.replace("\\\n", " "))
        if program == name
    ]


@pytest.mark.parametrize(("page", "words"), lines("session-authority"))
def test_a_command_line_on_a_page_is_valid(page: str, words: list[str]):
    path = [word for word in words if re.fullmatch(r"[a-z-]+", word) and word[0] != "-"]
    known = [" ".join(path[:length]) for length in (3, 2, 1) if " ".join(path[:length]) in COMMANDS]
    assert known or words[0] in {"--version", "--install-completion"}, f"{page}: {words}"
    shown = {word.partition("=")[0] for word in words if word.startswith("--")}
    allowed = COMMANDS[known[0]] if known else set(words)
    assert shown - allowed == set(), page


@pytest.mark.parametrize(("page", "words"), lines("make"))
def test_a_make_target_on_a_page_exists(page: str, words: list[str]):
    assert words[0] in TARGETS, page
