"""The counts of the campaigns' last long runs, and their table in the docs.

Runs of one build with different seeds add up, so that a run which was ended early is not lost.
"""

from __future__ import annotations

import fcntl
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from tests.faults.campaigns.campaign import Campaign

FILE = Path(__file__).with_name("results.toml")
_ROOT = Path(__file__).parents[3]
_PACKAGES = ("session_authority", "clients/python/session_authority_client")
_SOURCES = (".py", ".lua")
_HEAD = (
    "| fault | trials | wanted | calls judged | violations | lost | seeds | build |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
_ABOUT = """\
# What each campaign counted last. `make campaigns` writes it with --results: runs of one build add
# up, a run of another build takes the place of those before.
"""


@cache
def build() -> str:
    """A digest of the sources of the service and of the Python client."""
    digest = sha256()
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in _SOURCES:
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Result:
    """The counts of one campaign's runs."""

    seeds: tuple[int, ...]
    build: str
    trials: int
    calls: int
    violations: int
    lost: int
    """Answers with durability LOCAL that failovers, or an emptied store, lost. A lost answer with
    REPLICATED is a violation.
    """
    seconds: int

    def after(self, before: Result | None) -> Result:
        """The sum of this result and the earlier result, if both are of the same build. Otherwise
        this result.
        """
        if before is None or before.build != self.build:
            return self
        names = ("trials", "calls", "violations", "lost", "seconds")
        sums = {name: getattr(before, name) + getattr(self, name) for name in names}
        return replace(self, seeds=before.seeds + self.seeds, **sums)

    def is_of(self, seed: int, of_build: str) -> bool:
        """Returns whether this seed was played with this build. If so, another run would only find
        the same again.
        """
        return seed in self.seeds and self.build == of_build


def read(path: Path = FILE) -> dict[str, Result]:
    """Reads the results, by the names of their campaigns."""
    if not path.exists():
        return {}
    rows = tomllib.loads(path.read_text())
    return {name: Result(**row | {"seeds": tuple(row["seeds"])}) for name, row in rows.items()}


def write(results: Mapping[str, Result], path: Path = FILE) -> None:
    """Writes the results, in the order of their names."""
    names = [field.name for field in fields(Result)]
    parts = [_ABOUT]
    for name, result in sorted(results.items()):
        values = asdict(result)
        rows = "".join(f"{field} = {json.dumps(values[field])}\n" for field in names)
        parts.append(f"\n[{name}]\n{rows}")
    path.write_text("".join(parts))


def add(name: str, result: Result, path: Path) -> None:
    """Adds the result of a run to a file, to which other campaigns may add at the same time."""
    with path.open("a") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        before = read(path)
        write(before | {name: result.after(before.get(name))}, path)


def table(campaigns: Iterable[Campaign], results: Mapping[str, Result]) -> str:
    """The results as Markdown. A campaign that was not run has no row."""
    rows = (
        f"| {campaign.fault} | {result.trials:,} | {campaign.wanted:,} | {result.calls:,} "
        f"| {result.violations:,} | {result.lost:,} | {', '.join(map(str, result.seeds))} "
        f"| {result.build or 'older'} |\n"
        for campaign in campaigns
        if (result := results.get(campaign.name)) is not None
    )
    return _HEAD + "".join(rows)
