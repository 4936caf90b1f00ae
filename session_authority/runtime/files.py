"""Does the project's common work with files: it checks which other users can read or change them,
replaces a file as a whole, and reads files again when they change.

The package that reads a file defines what its content means.
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
    corrects the fault. A fault is a file mode, or an owner who is neither root nor this process's
    user. Links are followed. Raises OSError for a file that can't be examined.

    The group may read a secret, because Kubernetes gives secrets this way to pods that don't run as
    root. Every user may read a file that is not secret. The group and other users may not write to
    the folder of the file, because they could replace the file. The owner of this folder is not
    checked.

    Args:
        path: The file or folder.
        what: A description of the contents, for the message.
        secret: True if only the owner and the group may read the file.
        alone: True to skip the check of the file's folder.
    """
    return [*_exposure(path, what, secret), *([] if alone else _exposed_folder(path.parent, what))]


def _exposed_folder(folder: Path, what: str) -> list[str]:
    """Returns the faults that let other users replace files in a folder. A folder with the sticky
    bit, such as /tmp, has no such faults. A file system that can't be written has none either.
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
    """Writes the whole file. If writing fails, the old file stays as it was. Raises OSError. If
    only the sync of the folder fails, the new file is already in place.

    Only the owner can read or write the new file. With `keep_access`, the new file gets the mode of
    an old file and, if this user may do so, the owner and group.
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
    """Ensures that the folder's new state survives a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Reread(Generic[T]):
    """The contents of files, which are read again when the files change.

    A change counts when two checks in a row see the same files, because a file that is still being
    written may look complete at the first check. With `at_once`, a change counts at the first
    check. `at_once` is for files that are always replaced as a whole. `version` counts the changes
    that were read. `pending` is True after a change that only one check has seen. The constructor
    and `refresh` raise the `error` for broken files.

    Args:
        paths: The files. None stands for no file.
        read: Reads the files. Raises the error.
        error: The error for files that can't be examined.
        at_once: True if a change counts at the first check.
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
        """Checks the files, and reads them again if a change counts. Returns True if the files were
        read.

        Raises the error while the files are broken. Until they are repaired, `current` keeps its
        value.
        """
        # The state is taken before the files are read. So the next check finds a change that
        # happens while the files are read.
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
        """Returns the paths of the files that are read. Raises the error or OSError if they can't
        be found.
        """
        return self._paths

    def _look(self) -> object:
        """Returns the state of the files: the `file_state` of each file. Raises the error."""
        found = []
        for path in self._paths:
            try:
                found.append(file_state(path))
            except OSError as error:
                raise self._error(f"{path}: can't be read: {error.strerror}") from None
        return found


def file_state(path: Path) -> tuple[int, int, int]:
    """Returns the modification time, the size and the inode number of a file. A change of the file
    changes at least one of them, unless a program sets the modification time back. The file itself
    is not read. Raises OSError.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
