"""Tracked files: of known kinds, small, and with lines of at most 100 characters."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.split("\0")[:-1]
# A new kind may be added if people write it as source, never if it was built or downloaded.
SUFFIXES = {
    ".cfg",
    ".csproj",
    ".css",
    ".conf",
    ".go",
    ".html",
    ".in",
    ".js",
    ".json",
    ".lua",
    ".md",
    ".mod",
    ".png",
    ".proto",
    ".py",
    ".pyi",
    ".rs",
    ".service",
    ".sh",
    ".sum",
    ".svg",
    ".toml",
    ".tpl",
    ".ts",
    ".txt",
    ".typed",
    ".xml",
    ".yaml",
    ".yml",
}
NAMES = {
    *(".ci/run", ".dockerignore", ".gitignore", ".vale.ini", "Dockerfile", "LICENSE", "Makefile"),
    "clients/typescript/.npmrc",
    "deploy/gateway/caddy/Caddyfile",
}
AT_THE_ROOT = {
    *(".dockerignore", ".gitignore", ".vale.ini", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("Dockerfile", "LICENSE", "Makefile", "README.md", "SECURITY.md", "buf.gen.yaml"),
    *("buf.yaml", "compose.yaml", "mkdocs.yaml", "pyproject.toml"),
}
# `make protos` writes these.
GENERATED = ("clients/go/sessionauthorityv1/", "clients/typescript/src/gen/")
MAX_BYTES = 300_000
MAX_COLUMNS = 100


def kind_faults(name: str) -> list[str]:
    """Why a file may not be tracked, by its name."""
    path = Path(name)
    known = name in NAMES or path.name == "LICENSE" or path.suffix in SUFFIXES
    faults = [] if known else [f"{name}: of no known kind"]
    if len(path.parts) == 1 and name not in AT_THE_ROOT:
        faults.append(f"{name}: nothing else lies at the root")
    return faults


def wide_lines(name: str, text: str) -> Iterator[str]:
    """The lines over the limit that could be wrapped: not a row of a table, a lone link, or one
    word.
    """
    for number, line in enumerate(text.splitlines(), 1):
        row_or_link = name.endswith(".md") and line.startswith(("|", "["))
        wrappable = " " in line.strip() and not row_or_link
        if wrappable and len(line) > MAX_COLUMNS:
            yield f"{name}:{number}: {len(line)} columns"


def written_by_people(name: str) -> bool:
    """True for files whose lines people wrap. False for generated files, for licences, and for some
    kinds of files, such as JSON and SVG. Ruff checks the lines of Python.
    """
    unmeasured = (".json", ".png", ".py", ".pyi", ".sum", ".svg", ".txt")
    generated = name.startswith(GENERATED) or Path(name).suffix in unmeasured
    return not generated and Path(name).name != "LICENSE"


def test_tracked_files_are_of_known_kinds():
    assert [fault for name in TRACKED for fault in kind_faults(name)] == []


def test_tracked_files_are_small():
    assert [name for name in TRACKED if (ROOT / name).stat().st_size > MAX_BYTES] == []


def test_text_that_people_write_ends_at_column_100():
    names = filter(written_by_people, TRACKED)
    found = [fault for name in names for fault in wide_lines(name, (ROOT / name).read_text())]
    assert found == []


@pytest.mark.parametrize("name", ["six-1.16.0-py3-none-any.whl", "tests/a.tar.gz", "x.py", "notes"])
def test_a_foreign_file_is_noticed(name: str):
    assert kind_faults(name)


def test_a_wide_line_is_noticed():
    assert list(wide_lines("a.md", "x " * 50 + "x")) == ["a.md:1: 101 columns"]
    assert list(wide_lines("a.md", "x " * 50 + "\n|" + "x " * 200)) == []
    assert list(wide_lines("a.yaml", "  " + "x" * 200)) == []
