"""Who else may get at a file: what is secret must be for its owner, what is trusted must not be anybody's to change."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from shlex import quote


def exposure(path: Path, what: str, *, secret: bool = True, alone: bool = False) -> list[str]:
    """What lets others at a file or folder, each with the command that mends it. `what` is what is in it, in words.

    A secret may be read by its group, as Kubernetes gives secrets to pods that are not root's; what is no secret may be
    read by all. Unless it is looked at `alone`, nobody else may change the folder that it is in, or they could put another
    file in its place. Links are followed. Raises OSError for what can't be looked at.
    """
    return [*_exposure(path, what, secret), *([] if alone else _exposed_folder(path.parent, what))]


def _exposed_folder(folder: Path, what: str) -> list[str]:
    """What lets others put something else into a folder. In one like /tmp, or on what can't be written, they can't."""
    status = folder.stat()
    if status.st_mode & stat.S_ISVTX or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return []
    if status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        mode = stat.S_IMODE(status.st_mode)
        return [f"{folder}: its mode {mode:04o} lets others replace {what}; mend it: chmod go-w {quote(str(folder))}"]
    return []


def _exposure(path: Path, what: str, secret: bool) -> list[str]:
    status = path.stat()
    faults = []
    forbidden, mend = (stat.S_IRWXO | stat.S_IWGRP, "g-w,o=") if secret else (stat.S_IWOTH | stat.S_IWGRP, "go-w")
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        faults.append(f"{path}: its mode {mode:04o} lets others at {what}; mend it: chmod {mend} {quote(str(path))}")
    if status.st_uid not in (0, os.geteuid()):
        mend = f"chown {os.geteuid()} {quote(str(path))}"
        faults.append(f"{path}: belongs to another user ({status.st_uid}), who can change it; mend it: {mend}")
    return faults
