"""The files that an image removes from its packages: no command shows or runs any of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from session_authority_client.devices.catalogue import LANGUAGES
from tests.support.fork_server import ROOT

CLIENT = ROOT / "clients" / "python" / "session_authority_client"
# The data of the last two are removed: their readers read English.
SHOWN = ("de-AT", "en-GB", "en-IN", "es-419", "es-MX", "fr-CA", "ar-EG", "tr-CY", "pt-BR", "ja")
SHOW = f"""
import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo
from babel import Locale
from babel.localedata import locale_identifiers
from session_authority_client.devices import locales
from session_authority_client.devices.catalogue import LANGUAGES, chosen

for name in locale_identifiers():
    if name.partition("_")[0] in LANGUAGES:
        Locale.parse(name).territories
moment, now = datetime(2026, 11, 29, 17, 26, tzinfo=UTC), datetime(2026, 11, 29, 19, tzinfo=UTC)
zone = ZoneInfo("Europe/Vienna")
print(json.dumps([
    [
        locales.direction(language), locales.plural_category(2, language),
        locales.number(12345, language), locales.listed(("a", "b"), language),
        locales.country("AT", language), locales.exact(moment, language, zone),
        locales.relative(moment, now, language),
    ]
    for tag in {SHOWN!r}
    for language in (chosen([tag], ()), *([tag] if tag[:2] in LANGUAGES else []))
]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages as an image has them before they are pruned."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(CLIENT, folder / CLIENT.name)
    for name in ("babel", "pygments", "uvloop"):
        spec = find_spec(name)
        assert spec
        assert spec.origin
        shutil.copytree(Path(spec.origin).parent, folder / name)
    return folder


def run(folder: Path, *arguments: str | Path) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_page_and_a_traceback_are_unchanged_at_a_third_of_the_size(packages: Path):
    fails = "from rich.console import Console\ntry:\n    1 / 0\n"
    fails += "except ZeroDivisionError:\n    Console().print_exception()"
    before = run(packages, "-c", SHOW), run(packages, "-c", fails)
    assert len(json.loads(before[0])) > len(SHOWN)
    sizes = [sum(path.stat().st_size for path in packages.rglob("*.*"))]
    run(packages, ROOT / "scripts" / "prune_packages.py", packages)
    sizes.append(sum(path.stat().st_size for path in packages.rglob("*.*")))
    assert (run(packages, "-c", SHOW), run(packages, "-c", fails)) == before
    assert sizes[1] < sizes[0] / 3
    [module] = packages.glob("uvloop/*.so")
    assert module.stat().st_size < 3_000_000
    looped = "import asyncio, uvloop; print(uvloop.__file__, uvloop.run(asyncio.sleep(0, 1)))"
    assert run(packages, "-c", looped) == f"{module.parent / '__init__.py'} 1\n"
    left = {path.stem.partition("_")[0] for path in packages.glob("babel/locale-data/*.dat")}
    assert left == {"root", *LANGUAGES}
    assert {path.stem for path in packages.glob("pygments/lexers/*.py")} == {
        "__init__",
        "_mapping",
        "python",
    }


def test_packages_with_another_layout_are_refused(tmp_path: Path):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(tmp_path, ROOT / "scripts" / "prune_packages.py", tmp_path)
    assert "lack files that this script removes" in failed.value.stderr
