"""The paths that an app names in its settings: single paths, or all paths with the same start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

# Browsers read "//x" as another origin, and a backslash as a slash.
_FORM = re.compile(r"/(?![/\\])[^?#*]*\*?", re.DOTALL)


def checked_paths(setting: str, given: Sequence[str]) -> Iterator[str]:
    """The paths that an app names in that setting. Raises ValueError that names it."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ValueError(f"{setting}: must be several paths, not {given!r}")
    for path in given:
        if not isinstance(path, str) or not _FORM.fullmatch(path):
            raise ValueError(
                f'{setting}: must be paths, like "/callback", or their start, like "/mail/*", not'
                f" {path!r}"
            )
        yield path


def is_named(target: str, paths: Sequence[str]) -> bool:
    """Returns True if the path of a request's target is one of these paths. The query does not
    count.
    """
    path = unquote(target.partition("?")[0])
    return any(
        path.startswith(named[:-1]) if named.endswith("*") else path == named for named in paths
    )
