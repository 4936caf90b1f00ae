"""Finds the testees of the clients, and builds them: `testee.json` in each client's folder.

The variable TESTEES names the clients whose testees run: `python` (the default, as it needs no
other toolchain), `go,typescript`, or `all`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
_BUILD_SECONDS = 600


@dataclass(frozen=True)
class Recipe:
    """How a testee is built and run."""

    name: str
    folder: Path
    run: Sequence[str]
    build: Sequence[Sequence[str]] = ()
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def recipes_of(folder: Path) -> list[Recipe]:
    """The testees of a client."""
    described = json.loads((folder / "testee.json").read_text())
    return [Recipe(name, folder, **recipe) for name, recipe in described.items()]


def all_recipes() -> dict[str, Recipe]:
    """All testees, by their names."""
    folders = sorted(path.parent for path in CLIENTS.glob("*/testee.json"))
    return {recipe.name: recipe for folder in folders for recipe in recipes_of(folder)}


def wanted_recipes() -> dict[str, Recipe]:
    """The testees of the clients that TESTEES names. Raises ValueError for an unknown client."""
    named = os.environ.get("TESTEES", "python").replace(",", " ").split()
    known = {recipe.folder.name for recipe in all_recipes().values()}
    if unknown := {*named} - known - {"all"}:
        raise ValueError(f"TESTEES: no client has a testee of this name: {sorted(unknown)}")
    return {
        name: recipe
        for name, recipe in all_recipes().items()
        if "all" in named or recipe.folder.name in named
    }


@dataclass(frozen=True)
class Program:
    """A testee that can be started."""

    name: str
    folder: Path
    command: Sequence[str]
    environment: Mapping[str, str]


def missing(name: str, reason: str) -> None:
    """Skips a testee that this machine can't run; fails where everything must run."""
    text = f"the testee {name} does not run here: {reason}"
    if os.environ.get("REQUIRE_BACKENDS") == "1":
        pytest.fail(text)
    pytest.skip(text)


def program_of(name: str) -> Program:
    """The testee, built when it is first wanted in this run of the tests."""
    built = _built(name)
    if isinstance(built, str):
        missing(name, built)
    assert isinstance(built, Program)
    return built


@cache
def _built(name: str) -> Program | str:
    """The testee, or why there is none. A build that fails of itself fails the test."""
    recipe = all_recipes()[name]
    for program in recipe.needs:
        if shutil.which(program) is None:
            return f"there is no {program}"
    places = {"{out}": mkdtemp(prefix=f"testee-{name}-"), "{root}": str(ROOT)}

    def filled(text: str) -> str:
        for place, value in {**places, "{python}": sys.executable}.items():
            text = text.replace(place, value)
        return text

    environment = {**os.environ, **{key: filled(text) for key, text in recipe.environment.items()}}
    for step in recipe.build:
        done = subprocess.run(
            list(map(filled, step)),
            cwd=recipe.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
        if done.returncode:
            pytest.fail(f"{' '.join(step)} in {recipe.folder}:\n{done.stdout}{done.stderr}")
    return Program(name, recipe.folder, list(map(filled, recipe.run)), environment)
