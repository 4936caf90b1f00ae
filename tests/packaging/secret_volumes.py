"""Folders as Kubernetes mounts Secrets, with their modes, links and atomic updates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path


class SecretVolume:
    """A volume whose entries are links. All of them lead through one hidden link, and an update
    replaces only this hidden link.
    """

    def __init__(self, folder: Path, mode: int, group: int | None = None) -> None:
        """`group` is the pod's `fsGroup`, for a volume that is mounted read-only. With None, every
        file belongs to this process, in a folder of its own.
        """
        self._folder = folder
        self._mode = mode
        self._group = group
        self._versions = count(1)
        folder.mkdir(parents=True)
        # Kubernetes makes the folder writable for all, and the mount read-only.
        folder.chmod(0o700 if group is None else 0o3777)

    def write(self, entries: Mapping[str, bytes]) -> None:
        """Replaces all entries by these, at once."""
        fresh = self._folder / f"..version_{next(self._versions)}"
        fresh.mkdir()
        fresh.chmod(0o2755)
        for name, content in entries.items():
            (fresh / name).touch(0o600)
            (fresh / name).write_bytes(content)
            (fresh / name).chmod(self._mode)
        if self._group is not None:
            for path in (self._folder, fresh, *fresh.iterdir()):
                os.chown(path, 0, self._group)
        current = self._folder / "..data"
        before = current.resolve() if current.is_symlink() else None
        unfinished = self._folder / "..data_tmp"
        unfinished.symlink_to(fresh.name)
        unfinished.replace(current)
        for name in entries:
            link = self._folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        for link in self._folder.iterdir():
            if not link.name.startswith("..") and link.name not in entries:
                link.unlink()
        if before is not None:
            shutil.rmtree(before)
