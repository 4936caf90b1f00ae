"""The paths that an app names in its settings, each by itself or by its start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import unquote


def checked_paths(setting: str, given: Sequence[str]) -> Iterator[str]:
    """The paths that an app names in that setting. Raises ValueError."""
    if isinstance(given, str):
        raise ValueError(f"{setting}: must be several, not one text")
    for path in given:
        if not path.startswith("/") or "?" in path or "#" in path or "*" in path[:-1]:
            raise ValueError(
                f'{setting}: must be paths, like "/callback", or their start, like "/mail/*", not'
                f" {path!r}"
            )
        yield path


def is_named(target: str, paths: Sequence[str]) -> bool:
    """Whether the path of a request's target is one of those. Its query does not count."""
    path = unquote(target.partition("?")[0])
    return any(
        path.startswith(named[:-1]) if named.endswith("*") else path == named for named in paths
    )
