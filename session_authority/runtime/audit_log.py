"""Writes the audit log. Each line says which administrative act was done or tried, by which caller,
from which address, to which user, and with which outcome. Some acts only read data, for example a
call that lists the devices of a user.

The audit log is separate from other logs, because the audit log names users. The audit log is
written to standard error or to a file, with one JSON object on each line. Each line is appended in
one write, so several processes can share a file. If the file of the audit log was moved, for
example by logrotate, the next line goes to a new file with the old name.

If a line can't be written, the administrative act itself still succeeds. Lines that could not be
written are counted, and their number is reported in the service's log at most once a minute.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from session_authority.runtime.logs import LineBudget, LogThrottle

STDERR = "stderr"
# The limit of lines in a second for one caller's calls that only read data, fail or are refused.
# Lines beyond this limit are only counted, because they could fill the disk. This limit does not
# apply to an act that changed something.
MAX_LIMITED_LINES_PER_SECOND = 100
MAX_TEXT_CHARACTERS = 256
# The limits for a list of names in a line: the number of names, and the characters of each name. A
# caller may send thousands of long names in a call that is refused, and lines with all these names
# could fill the disk.
MAX_NAMES, MAX_NAME_CHARACTERS = 32, 64
_COMPLAINT_SECONDS = 60.0
_MODE = 0o600

_log = structlog.get_logger(__name__)


class AuditLogError(Exception):
    """The file of the audit log can't be used. The message gives the reason."""


def target_fault(target: str) -> str | None:
    """Returns the reason why the audit log can't be written to this target, or None if no reason is
    found. The target is a path or `stderr`.
    """
    path = Path(target)
    if target == STDERR:
        return None
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return f"{path} is no regular file"
    if path.exists():
        return None if os.access(path, os.W_OK) else f"{path} can't be written"
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        return f"{path} is not there, and its folder can't be written"
    return None


class AuditFile:
    """A file to which lines are only appended. The constructor raises AuditLogError if the file
    can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_torn = False
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise AuditLogError(f"{path}: can't be written: {error.strerror}") from None

    def write(self, line: str) -> None:
        """Appends a line, which must end with a line break. Raises OSError if the line can't be
        written completely.
        """
        if self._was_moved():
            opened = self._open()
            self.close()
            self._descriptor, self._is_torn = opened, False
        # If the disk was full during the last write, the file may end with an incomplete line. A
        # line break separates the incomplete line from the new line.
        data = f"{chr(10) if self._is_torn else ''}{line}".encode()
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError("only a part was written")

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        # Without O_NONBLOCK, opening a pipe that has no reader would block.
        descriptor = os.open(self._path, flags | os.O_NONBLOCK, _MODE)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(0, "is no regular file")
        if os.geteuid() == 0 and status.st_size == 0:
            # If root runs a command and creates the file, the service must still be able to write
            # to the file. So a file that root creates gets the owner of its folder.
            folder = self._path.absolute().parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        return descriptor

    def _was_moved(self) -> bool:
        try:
            there, mine = os.stat(self._path, follow_symlinks=False), os.fstat(self._descriptor)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)


class _StandardError:
    """Writes lines to standard error. `sys.stderr` is read again for each line, because other code
    may replace it.
    """

    def write(self, line: str) -> None:
        """Writes a line. Raises OSError if the line can't be written, or ValueError if standard
        error is closed.
        """
        sys.stderr.write(line)
        sys.stderr.flush()

    def close(self) -> None:
        """Does nothing, so standard error stays open."""


class AuditLog:
    """Writes administrative acts to standard error or to a file. The constructor raises
    AuditLogError if the file can't be opened.
    """

    def __init__(self, target: str) -> None:
        self._sink = _StandardError() if target == STDERR else AuditFile(Path(target))
        self._throttle = LogThrottle(_COMPLAINT_SECONDS)
        self._limits: dict[str, LineBudget] = {}
        self._lost = 0

    def note(self, action: str, outcome: str, fields: Mapping[str, Any], *, limited: bool) -> None:
        """Writes one act to the audit log. Raises no error if the line can't be written.

        Args:
            action: The name of the RPC or of the command.
            outcome: The status code of gRPC for an RPC, or `OK` or `FAILED` for a command.
            fields: The caller, the peer, the user and further facts. Texts are cut at 256
                characters. Lists are cut at 32 names, and each name at 64 characters. Empty values
                are left out.
            limited: True if the line may be left out because its caller has caused too many lines
                in this second.
        """
        left_out = 0
        if limited:
            counted = self._limit_of(str(fields.get("caller", ""))).count(monotonic())
            if counted is None:
                return
            left_out = counted
        line = {
            "event": "audit",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "action": action,
            "outcome": outcome,
            **{name: _cut(value) for name, value in fields.items() if value not in (None, "", [])},
        }
        if left_out:
            line["left_out"] = left_out
        if self._lost:
            line["lost"] = self._lost
        try:
            self._sink.write(f"{json.dumps(line)}\n")
        except (OSError, ValueError) as error:
            self._complain(error)
        else:
            self._lost = 0

    def close(self) -> None:
        """Closes the file of the audit log, if the audit log is a file."""
        self._sink.close()

    def _limit_of(self, caller: str) -> LineBudget:
        """Returns the budget that limits the lines of a caller. All callers without a known name
        share one budget. The names of all other callers come from the access policy, so there are
        few budgets.
        """
        return self._limits.setdefault(caller, LineBudget(MAX_LIMITED_LINES_PER_SECOND))

    def _complain(self, error: Exception) -> None:
        self._lost += 1
        if self._throttle.count("lost", monotonic()) is not None:
            # An error is ignored here, because the service's log may be on the same full disk as
            # the audit log.
            with suppress(OSError, ValueError):
                _log.error("audit_log_failed", error=type(error).__name__, lost=self._lost)


def _cut(value: Any) -> Any:
    """Converts a value to a type that JSON supports, and limits the length of texts and lists."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        names = [str(name)[:MAX_NAME_CHARACTERS] for name in value[:MAX_NAMES]]
        more = len(value) - len(names)
        return [*names, f"({more} more)"] if more else names
    return str(value)[:MAX_TEXT_CHARACTERS]
