"""Finds the testees of the clients, and builds them: `testee.json` in each client's folder.

The variable TESTEES names the clients whose testees run: `python` (the default, as it needs no
other toolchain), `go,typescript`, or `all`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
# TESTEE_CLIENTS names another folder, which has changed copies of clients.
CLIENTS = Path(os.environ.get("TESTEE_CLIENTS", ROOT / "clients"))
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
    """All testees, by name."""
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


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Keeps the other processes of this run from building in the client's folder at the same time:
    two `npm install` at once break the packages that both install.
    """
    with (folder / "testee.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Program:
    """A testee that can be started."""

    name: str
    folder: Path
    command: Sequence[str]
    environment: Mapping[str, str]


def built(recipe: Recipe, scratch: Path) -> Program | str:
    """Builds the testee below a folder, unless it was built there before. Returns the testee, or
    the reason why this machine can't build it.

    Several processes of one run may call this. Raises CalledProcessError for a build that fails.
    """
    for program in recipe.needs:
        if shutil.which(program) is None:
            return f"there is no {program} on this machine"
    out = scratch / f"testee-{recipe.name}"
    places = {
        "{out}": str(out),
        "{folder}": str(recipe.folder),
        "{root}": str(ROOT),
        "{python}": sys.executable,
    }

    def filled(text: str) -> str:
        for place, value in places.items():
            text = text.replace(place, value)
        return text

    environment = {**os.environ, **{key: filled(text) for key, text in recipe.environment.items()}}
    out.mkdir(exist_ok=True)
    with building(recipe.folder):
        if not (out / "built").exists():
            for step in recipe.build:
                subprocess.run(
                    list(map(filled, step)),
                    cwd=recipe.folder,
                    env=environment,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=_BUILD_SECONDS,
                )
            (out / "built").touch()
    return Program(recipe.name, recipe.folder, list(map(filled, recipe.run)), environment)
