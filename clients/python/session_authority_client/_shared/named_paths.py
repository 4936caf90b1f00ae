"""Checks the paths that an app names in its settings, and compares requests with these paths. An
entry of a setting is a single path, or the common start of several paths followed by `*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

# Browsers read "//x" as another origin, and read a backslash as a slash.
_FORM = re.compile(r"/(?![/\\])[^?#*]*\*?", re.DOTALL)


def checked_paths(setting: str, given: Sequence[str]) -> Iterator[str]:
    """Checks the paths of a setting, and yields each path. `setting` is the name of the setting,
    for the text of an exception. Raises ValueError if a path is malformed, or if `given` is a
    single text or no collection.
    """
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
    """Returns True if an entry of `paths` names the path of a request's target. The query of the
    target is ignored.
    """
    path = unquote(target.partition("?")[0])
    return any(
        path.startswith(named[:-1]) if named.endswith("*") else path == named for named in paths
    )
