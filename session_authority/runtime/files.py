"""Works with files: checks which other users can read or change a file, replaces a file as a whole,
and reads files again when they change.

The package that uses a file defines what the content of the file means.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Generic, TypeVar

T = TypeVar("T")


def exposure(path: Path, what: str, *, secret: bool = True, alone: bool = False) -> list[str]:
    """Returns the faults that expose a file or folder to other users, each with the command that
    corrects the fault. A fault is a mode that gives other users access, or an owner who is neither
    root nor the user of this process. Symbolic links are followed. Raises OSError if the file or
    its folder can't be examined.

    The group of a file may read a secret, because Kubernetes uses the group to give secrets to pods
    that don't run as root. Every user may read a file that is not secret. It is a fault if the
    group or other users may write to the folder of the file, because they could replace the file.
    If the folder of the file has the sticky bit, its mode is no fault. The owner of the folder is
    not checked.

    Args:
        path: The file or folder.
        what: A description of the content for the message, such as `the key`.
        secret: True if only the owner and the group may read the file.
        alone: True to skip the check of the file's folder.
    """
    return [*_exposure(path, what, secret), *([] if alone else _exposed_folder(path.parent, what))]


def _exposed_folder(folder: Path, what: str) -> list[str]:
    """Returns a fault if the mode of the folder lets other users replace files in the folder. There
    is no fault if the folder has the sticky bit, such as /tmp, or if its file system is read-only.
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


def replace_file(path: Path, data: bytes, *, keep_access: bool = False) -> None:
    """Replaces the file `path` as a whole, or creates it. If the file can't be replaced, raises
    OSError, and the old file stays as it was. If only the sync of the folder fails, OSError is
    raised although the new file is already in place.

    Without `keep_access`, only the owner can read or write the new file. With `keep_access`, the
    new file gets the mode of the old file, if there is one. If this process may change owners, the
    new file also gets the owner and the group of the old file.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")  # The file has mode 0600.
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if keep_access and path.exists():
                kept = path.stat()
                with suppress(PermissionError):  # Only root can change the owner of a file.
                    os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
                os.fchmod(file.fileno(), kept.st_mode & 0o777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Writes the entries of the folder to the disk, so that a file that was just created or
    replaced survives a power failure. Raises OSError if the folder can't be written to the disk.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Reread(Generic[T]):
    """Keeps the content of files in `current`, and reads the files again when they change.

    `refresh` checks the files. `refresh` reads changed files only after two checks in a row have
    seen the same state. A file that is still being written may look complete at the first check.
    With `at_once`, `refresh` reads changed files at the first check. `at_once` is for files that
    are always replaced as a whole.

    `version` counts how often changed files were read. `pending` is True after the first check that
    sees a change, until the second check. The constructor and `refresh` raise `error` if the files
    are broken.

    Args:
        paths: The paths of the files. A path that is None is ignored.
        read: Reads the files, and returns their content. Raises `error` if the files are broken.
        error: The type of the exception for files that can't be examined or are broken.
        at_once: True if changed files are read at the first check.
    """

    def __init__(
        self,
        paths: Iterable[Path | None],
        read: Callable[[], T],
        error: type[Exception],
        *,
        at_once: bool = False,
    ) -> None:
        self._paths = tuple(path for path in paths if path is not None)
        self._read = read
        self._error = error
        self._at_once = at_once
        self.version = 0
        self.pending = False
        self._read_state = self._seen = self._look()
        self.current = read()

    def refresh(self) -> bool:
        """Checks the files, and reads changed files again: with `at_once` at the first check, else
        at the second check that sees the same state. Returns True if the files were read.

        If the files are broken, raises the `error` of the constructor, and `current` keeps its old
        value. The next call tries to read the files again.
        """
        # The state of the files is taken before the files are read. So the next check finds a
        # change that happens while the files are read.
        before, self._seen = self._seen, self._look()
        found = self._seen
        self.pending = not self._at_once and found not in (self._read_state, before)
        if self.pending or found == self._read_state:
            return False
        self.current = self._read()
        self._read_state = found
        self.version += 1
        return True

    def is_readable(self) -> bool:
        """Returns True if the files can be read, even if their contents are wrong."""
        try:
            for path in self._files():
                path.read_bytes()
        except (OSError, self._error):
            return False
        return True

    def _files(self) -> Iterable[Path]:
        """Returns the paths of the files that `is_readable` checks. A subclass may override this
        method, and may raise OSError or the `error` of the constructor.
        """
        return self._paths

    def _look(self) -> object:
        """Returns the state of the files, which is the `file_state` of each file. Raises the
        `error` of the constructor if a file can't be examined.
        """
        found = []
        for path in self._paths:
            try:
                found.append(file_state(path))
            except OSError as error:
                raise self._error(f"{path}: can't be read: {error.strerror}") from None
        return found


def file_state(path: Path) -> tuple[int, int, int]:
    """Returns the modification time, the size and the inode number of a file. A change of the file
    normally changes at least one of the three numbers. The content of the file is not read. Raises
    OSError if the file can't be examined.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
