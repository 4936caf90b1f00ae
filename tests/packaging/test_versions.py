"""Everything that is released together has one version, in every file that the page of releases
names.
"""

from __future__ import annotations

import re

from tests.support.fork_server import ROOT

PAGE = (ROOT / "docs" / "releases.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def places() -> list[tuple[str, str]]:
    """The files that contain the version, and the lines that contain it."""
    [table] = re.findall(r"<!-- versions: begin -->\n(.*?)<!-- versions: end", PAGE, re.DOTALL)
    return re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", table, re.MULTILINE)


def version_in(file: str, line: str) -> str:
    pattern = f"^{re.escape(line).replace('VERSION', '(.+)')}$"
    [version] = re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)
    return str(version)


def test_there_is_one_version():
    found = {place: version_in(*place) for place in places()}
    assert len(found) == 5
    assert len(set(found.values())) == 1, found


def test_the_changelog_begins_with_the_version_or_with_unreleased_changes():
    [version] = {version_in(*place) for place in places()}
    headings = re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)
    assert headings[0] in ("Unreleased", version)
    assert version not in headings[1:], "the changes after a release need another version"
