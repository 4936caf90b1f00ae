"""Who else may get at a file: what is secret must be for its owner, what is trusted must not be
anybody's to change. And what is read again when files change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from shlex import quote
from typing import Generic, TypeVar

T = TypeVar("T")


def exposure(path: Path, what: str, *, secret: bool = True, alone: bool = False) -> list[str]:
    """What lets others at a file or folder, each with the command that mends it. `what` is what is
    in it, in words.

    A secret may be read by its group, as Kubernetes gives secrets to pods that are not root's; what
    is no secret may be read by all. Unless it is looked at `alone`, nobody else may change the
    folder that it is in, or they could put another file in its place. Links are followed. Raises
    OSError for what can't be looked at.
    """
    return [*_exposure(path, what, secret), *([] if alone else _exposed_folder(path.parent, what))]


def _exposed_folder(folder: Path, what: str) -> list[str]:
    """What lets others put something else into a folder. In one like /tmp, or on what can't be
    written, they can't.
    """
    status = folder.stat()
    if status.st_mode & stat.S_ISVTX or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return []
    if status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        mode = stat.S_IMODE(status.st_mode)
        return [
            (
                f"{folder}: its mode {mode:04o} lets others replace {what}; mend it: chmod go-w"
                f" {quote(str(folder))}"
            )
        ]
    return []


def _exposure(path: Path, what: str, secret: bool) -> list[str]:
    status = path.stat()
    faults = []
    forbidden, mend = (
        (stat.S_IRWXO | stat.S_IWGRP, "g-w,o=") if secret else (stat.S_IWOTH | stat.S_IWGRP, "go-w")
    )
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        faults.append(
            f"{path}: its mode {mode:04o} lets others at {what}; mend it: chmod {mend}"
            f" {quote(str(path))}"
        )
    if status.st_uid not in (0, os.geteuid()):
        mend = f"chown {os.geteuid()} {quote(str(path))}"
        faults.append(
            f"{path}: belongs to another user ({status.st_uid}), who can change it; mend it: {mend}"
        )
    return faults


class Reread(Generic[T]):
    """What is in files, read again when they change. A change is taken once two looks in a row saw
    the same: what is still being written may look whole.

    `version` counts how often they changed, `pending` is a change that was seen once. Broken files
    are an `error` of that kind, at the start too.
    """

    def __init__(
        self, paths: Iterable[Path | None], read: Callable[[], T], error: type[Exception]
    ) -> None:
        self._paths = tuple(path for path in paths if path is not None)
        self._read = read
        self._error = error
        self.version = 0
        self.pending = False
        self._taken = self._seen = self._look()
        self.current = read()

    def refresh(self) -> bool:
        """Reads the files again if they changed, and says whether they did.

        Raises the error as long as they are broken; until they are mended, `current` stays as it
        was.
        """
        before, self._seen = self._seen, self._look()
        found = self._seen
        self.pending = found not in (self._taken, before)
        if self.pending or found == self._taken:
            return False
        self.current = self._read()
        self._taken = found
        self.version += 1
        return True

    def _look(self) -> list[tuple[int, int, int]]:
        """What changes whenever a file does. Taken before it is read: a change in between is seen
        the next time.
        """
        found = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError as error:
                raise self._error(f"{path}: can't be read: {error.strerror}") from None
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found
