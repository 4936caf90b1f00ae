"""What the campaigns counted in their last long run, and the table of it in the docs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tests.faults.campaigns.campaign import Campaign

FILE = Path(__file__).with_name("results.toml")
_HEAD = (
    "| fault | trials | wanted | calls judged | violations | lost | seed |\n"
    "|---|---|---|---|---|---|---|\n"
)
_ABOUT = "# What each campaign counted last. `make campaigns` writes it with --results.\n"


@dataclass(frozen=True, slots=True)
class Result:
    """What one campaign counted."""

    seed: int
    trials: int
    calls: int
    violations: int
    lost: int
    """Answers with durability LOCAL that failovers, or an emptied store, lost. An answer with
    REPLICATED that is lost is a violation.
    """
    seconds: int


def read(path: Path = FILE) -> dict[str, Result]:
    """The results by the names of their campaigns."""
    if not path.exists():
        return {}
    return {name: Result(**row) for name, row in tomllib.loads(path.read_text()).items()}


def write(results: Mapping[str, Result], path: Path = FILE) -> None:
    """Writes them, in the order of their names."""
    names = [field.name for field in fields(Result)]
    parts = [_ABOUT]
    for name, result in sorted(results.items()):
        values = asdict(result)
        rows = "".join(f"{field} = {values[field]}\n" for field in names)
        parts.append(f"\n[{name}]\n{rows}")
    path.write_text("".join(parts))


def table(campaigns: Iterable[Campaign], results: Mapping[str, Result]) -> str:
    """The results as Markdown. A campaign that was not run has no row."""
    rows = (
        f"| {campaign.fault} | {result.trials:,} | {campaign.wanted:,} | {result.calls:,} "
        f"| {result.violations:,} | {result.lost:,} | {result.seed} |\n"
        for campaign in campaigns
        if (result := results.get(campaign.name)) is not None
    )
    return _HEAD + "".join(rows)
