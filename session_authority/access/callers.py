"""Makes, stores, checks and removes the bearer tokens of callers that have no certificate.

A token is a prefix and 256 random bits. Secret scanners can recognize the prefix. A token file has
one line for each token. A line has the caller's name, the token's ID, the time at which the token
was added, and the SHA-256 of the token. The token can't be computed from its line. A caller may
have several good tokens at the same time. With two tokens, a caller can switch to the new token
before the old token is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from session_authority.access.errors import AccessError
from session_authority.runtime.files import replace_file

TOKEN_PREFIX = "sacall_"
NAME_RULE = (
    "must be 1 to 64 lower-case letters, digits, '.', '_' or '-', starting with a letter or digit"
)
_TOKEN_BYTES = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID_CHARACTERS = 8
_TITLE = "# caller  token ID  added  SHA-256 of the token\n"


@dataclass(frozen=True, slots=True)
class CallerToken:
    """The data that a token file has about one token of a caller. `digest` is the SHA-256 of the
    token.
    """

    caller: str
    added_at: datetime
    digest: bytes

    @property
    def token_id(self) -> str:
        """The ID of the token: the first 8 hexadecimal digits of the digest."""
        return self.digest.hex()[:_ID_CHARACTERS]

    def matches(self, digest: bytes) -> bool:
        """Returns True if the token has this digest. The comparison takes the same time for every
        digest.
        """
        return hmac.compare_digest(self.digest, digest)


def digest_of(token: str) -> bytes:
    """Returns the SHA-256 of a token's text."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_name(name: object) -> bool:
    """Returns True if a caller may have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def new_token() -> str:
    """Makes a token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def read_tokens(path: Path) -> tuple[CallerToken, ...]:
    """Returns the tokens in a token file. Raises AccessError if the file can't be read, is not
    UTF-8, or has lines that are not valid. The error names all lines that are not valid.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise AccessError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AccessError(f"{path}: is not UTF-8") from None
    found: list[CallerToken] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        token = _parsed(line)
        if token is None:
            faults.append(
                f"{path}: line {number}: must have a caller, a token ID, a time and a SHA-256, all"
                " of one token"
            )
        elif any(other.digest == token.digest for other in found):
            faults.append(f"{path}: line {number}: this token is there already")
        else:
            found.append(token)
    if faults:
        raise AccessError(*faults)
    return tuple(found)


def add_token(path: Path, caller: str, token: str, now: datetime) -> CallerToken:
    """Adds a token of a caller to a token file. Creates the file if it does not exist. Raises
    AccessError if the caller's name breaks NAME_RULE, if the file has faults, or if the file can't
    be read or written.
    """
    if not is_name(caller):
        raise AccessError(f"the caller's name {NAME_RULE}")
    added = CallerToken(caller, now.replace(microsecond=0), digest_of(token))
    path = path.resolve()  # if the path is a link, the target of the link is replaced
    with _alone(path):
        _write(path, [*(read_tokens(path) if path.exists() else ()), added])
    return added


def remove_tokens(path: Path, caller: str, token_id: str | None = None) -> Sequence[CallerToken]:
    """Removes the tokens of a caller that have this `token_id`, or all tokens of the caller if
    `token_id` is None. Returns the removed tokens. Raises AccessError if there is no token to
    remove, if the file has faults, or if the file can't be read or written.
    """
    path = path.resolve()
    with _alone(path):
        tokens = read_tokens(path)
        gone = [t for t in tokens if t.caller == caller and token_id in (None, t.token_id)]
        if not gone:
            # The error does not show `token_id`, because a person may have entered the token itself
            # by mistake.
            which = "token with this ID" if token_id is not None else "token"
            raise AccessError(f"{path}: the caller {caller!r} has no {which}")
        _write(path, [token for token in tokens if token not in gone])
    return gone


def _parsed(line: str) -> CallerToken | None:
    match line.split():
        case [caller, token_id, added, digest] if is_name(caller) and _DIGEST.fullmatch(digest):
            try:
                moment = datetime.fromisoformat(added)
            except ValueError:
                return None
            token = CallerToken(caller, moment, bytes.fromhex(digest))
            return token if token.token_id == token_id and moment.tzinfo is not None else None
    return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Locks a token file inside the `with` block, so that no other process that uses this lock
    changes the file. The lock is on a second file, because the token file itself is replaced at
    each change. Raises AccessError if the second file can't be opened.
    """
    try:
        handle = os.open(
            path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise AccessError(f"{path}: can't be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, tokens: Sequence[CallerToken]) -> None:
    lines = [
        f"{token.caller}  {token.token_id}  {_utc(token.added_at)}  {token.digest.hex()}\n"
        for token in tokens
    ]
    try:
        # The new file keeps the mode and the owner of the old file. If root changes the file, the
        # service must still be able to read the file.
        replace_file(path, "".join([_TITLE, *lines]).encode(), keep_access=True)
    except OSError as error:
        raise AccessError(f"{path}: can't be written: {error.strerror}") from None


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
