"""Bearer tokens are random enough, are stored only as hashes, and are never lost when another
process changes the file.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from session_authority.access import (
    AccessError,
    CallerToken,
    add_token,
    new_token,
    read_tokens,
    remove_tokens,
)
from session_authority.access.callers import NAME_RULE, digest_of

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
RULE = "must have a caller, a token ID, a time and a SHA-256, all of one token"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def faults_of(file: Path) -> list[str]:
    with pytest.raises(AccessError) as caught:
        read_tokens(file)
    return [fault.removeprefix(f"{file}: ") for fault in caught.value.faults]


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_has_256_random_bits_after_its_prefix(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def chance(count: int) -> bytes:
        asked.append(count)
        return bytes(range(200, 200 + count))

    monkeypatch.setattr("secrets.token_bytes", chance)
    token = new_token()
    assert token.startswith("sacall_")
    assert base64.urlsafe_b64decode(token.removeprefix("sacall_") + "=") == bytes(range(200, 232))
    assert asked == [32]


def test_no_two_tokens_are_equal():
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"sacall_[A-Za-z0-9_-]{43}", token, re.ASCII) for token in tokens)


def test_the_repr_of_a_stored_token_does_not_show_the_token():
    token = CallerToken("ada", NOW, digest_of("sacall_secret"))
    assert "sacall_secret" not in repr(token)
    assert token.token_id == digest_of("sacall_secret").hex()[:8]


# --- the file -------------------------------------------------------------------------------------


def test_tokens_are_added_listed_and_removed(file: Path):
    texts = {name: new_token() for name in ("login", "gateway")}
    added = {name: add_token(file, name, text, NOW) for name, text in texts.items()}
    second = add_token(file, "login", new_token(), NOW + timedelta(days=1))
    assert added["login"] == CallerToken(
        "login", NOW.replace(microsecond=0), digest_of(texts["login"])
    )
    assert read_tokens(file) == (added["login"], added["gateway"], second)
    assert remove_tokens(file, "login", second.token_id) == [second]
    assert read_tokens(file) == (added["login"], added["gateway"])
    third = add_token(file, "login", new_token(), NOW)
    assert remove_tokens(file, "login") == [added["login"], third]
    assert read_tokens(file) == (added["gateway"],)
    assert remove_tokens(file, "gateway") == [added["gateway"]]
    assert read_tokens(file) == ()


def test_the_token_itself_is_nowhere_on_disk(tmp_path: Path, file: Path):
    token = new_token()
    add_token(file, "login", token, NOW)
    remove_tokens(file, "login")
    add_token(file, "login", token, NOW)
    raw = base64.urlsafe_b64decode(token.removeprefix("sacall_") + "=")
    for path in tmp_path.rglob("*"):
        for form in (
            token.encode(),
            token.removeprefix("sacall_").encode(),
            raw,
            raw.hex().encode(),
        ):
            assert form not in path.read_bytes()
    assert digest_of(token).hex() in file.read_text()


def test_only_the_owner_may_read_the_file_unless_its_mode_was_changed(file: Path):
    old = os.umask(0)
    try:
        add_token(file, "login", new_token(), NOW)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    add_token(file, "login", new_token(), NOW)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    remove_tokens(file, "login")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize("may", [True, False])
def test_a_change_keeps_the_owner_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, may: bool
):
    """A change by an operator who is root must not make the file unreadable for the service."""
    given: list[tuple[int, int]] = []

    def give(_: int, user: int, group: int) -> None:
        given.append((user, group))
        if not may:
            raise PermissionError

    add_token(file, "login", new_token(), NOW)
    monkeypatch.setattr(os, "fchown", give)
    add_token(file, "login", new_token(), NOW)
    assert given == [(file.stat().st_uid, file.stat().st_gid)]
    assert len(read_tokens(file)) == 2


def test_times_are_kept_in_utc(file: Path):
    add_token(file, "login", new_token(), NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert "2026-03-01T12:00:00Z" in file.read_text()
    assert read_tokens(file)[0].added_at == NOW.replace(microsecond=0)


@pytest.mark.parametrize("token_id", [None, "00000000"])
def test_a_token_that_does_not_exist_cannot_be_removed(file: Path, token_id: str | None):
    add_token(file, "gateway", new_token(), NOW)
    before = file.read_bytes()
    which = "token with this ID" if token_id else "token"
    with pytest.raises(AccessError) as caught:
        remove_tokens(file, "login", token_id)
    assert str(caught.value) == f"{file}: the caller 'login' has no {which}"
    assert file.read_bytes() == before


def test_another_callers_token_is_not_removed_by_its_id(file: Path):
    other = add_token(file, "gateway", new_token(), NOW)
    add_token(file, "login", new_token(), NOW)
    with pytest.raises(AccessError, match="has no token"):
        remove_tokens(file, "login", other.token_id)
    assert len(read_tokens(file)) == 2


@pytest.mark.parametrize("name", ["", "Ada", "a b", "a\nb", "a" * 65])
def test_a_name_that_no_caller_may_have_gets_no_token(file: Path, name: str):
    with pytest.raises(AccessError) as caught:
        add_token(file, name, new_token(), NOW)
    assert str(caught.value) == f"the caller's name {NAME_RULE}"
    assert not file.exists()


def test_comments_and_empty_lines_are_ignored(file: Path):
    add_token(file, "login", new_token(), NOW)
    file.write_text("\n   \n  # by hand\n" + file.read_text() + "\n")
    assert [token.caller for token in read_tokens(file)] == ["login"]


def test_malformed_lines_are_reported_with_their_numbers(file: Path):
    good = CallerToken("login", NOW, digest_of("x"))
    digest, when = good.digest.hex(), "2026-03-01T12:00:00Z"
    line = f"login {good.token_id} {when} {digest}"
    bad = [
        "login",
        f"login {good.token_id} {when}",
        f"{line} more",
        f"Login {good.token_id} {when} {digest}",
        f"login 00000000 {when} {digest}",
        f"login {good.token_id} yesterday {digest}",
        f"login {good.token_id} 2026-03-01T12:00:00 {digest}",
        f"login {good.token_id} {when} {digest[:-1]}",
        f"login {good.token_id} {when} {digest.upper()}",
        f"login {good.token_id} {when} {digest}0",
    ]
    file.write_text("\n".join(["# title", line, *bad, "", line]) + "\n")
    numbers = range(3, 3 + len(bad))
    last = 3 + len(bad) + 1
    assert faults_of(file) == [
        *(f"line {number}: {RULE}" for number in numbers),
        f"line {last}: this token is there already",
    ]


def test_one_token_cannot_belong_to_two_callers(file: Path):
    token = new_token()
    add_token(file, "login", token, NOW)
    file.write_text(
        file.read_text() + file.read_text().splitlines()[1].replace("login", "gateway") + "\n"
    )
    assert faults_of(file) == ["line 3: this token is there already"]


def test_a_fault_does_not_show_the_contents_of_its_line(file: Path):
    token = new_token()
    file.write_text(f"login {token}\n")
    assert token not in str(faults_of(file))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, file: Path):
    file.write_bytes(b"\xff")
    assert faults_of(file) == ["is not UTF-8"]
    with pytest.raises(AccessError, match="can't be read: No such file or directory"):
        read_tokens(tmp_path / "none")
    with pytest.raises(AccessError, match="can't be read: Is a directory"):
        read_tokens(tmp_path)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path):
    with pytest.raises(AccessError, match="can't be written: No such file or directory"):
        add_token(tmp_path / "none" / "tokens", "login", new_token(), NOW)


def test_a_broken_file_is_not_overwritten(file: Path):
    file.write_text("nonsense\n")
    with pytest.raises(AccessError, match="line 1"):
        add_token(file, "login", new_token(), NOW)
    assert file.read_text() == "nonsense\n"


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, when: str
):
    add_token(file, "login", new_token(), NOW)
    before, files = file.read_bytes(), sorted(tmp_path.iterdir())

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail) if when == "fsync" else patch.setattr(
            Path, "replace", fail
        )
        with pytest.raises(AccessError, match="can't be written: No space left on device"):
            add_token(file, "gateway", new_token(), NOW)
    assert (file.read_bytes(), sorted(tmp_path.iterdir())) == (before, files)
    add_token(file, "gateway", new_token(), NOW)
    assert len(read_tokens(file)) == 2


ADD_MANY = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from session_authority.access import add_token, new_token
sys.stdin.readline()
for _ in range(25):
    add_token(Path(sys.argv[1]), sys.argv[2], new_token(), datetime(2026, 3, 1, tzinfo=UTC))
"""


def test_processes_that_add_tokens_at_once_lose_none(file: Path):
    names = ("login", "gateway", "account")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD_MANY, str(file), name], cwd=ROOT, stdin=subprocess.PIPE
        )
        for name in names
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    tokens = read_tokens(file)
    assert [sum(token.caller == name for token in tokens) for name in names] == [25] * len(names)
