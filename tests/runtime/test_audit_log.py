"""The audit log has a line for each act. The file only grows, and a fault of the file fails
no act.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from session_authority.runtime import audit_log
from session_authority.runtime.audit_log import (
    MAX_LIMITED_LINES_PER_SECOND,
    MAX_TEXT_CHARACTERS,
    AuditLog,
    AuditLogError,
    target_fault,
)

Logged = list[MutableMapping[str, Any]]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def note(log: AuditLog, action: str = "RevokeAll", *, limited: bool = False, **fields: Any) -> None:
    log.note(action, "OK", fields, limited=limited)


def test_an_act_is_one_line_in_a_file_that_only_its_owner_reads(tmp_path: Path):
    path = tmp_path / "audit.log"
    log = AuditLog(str(path))
    note(log, caller="support", user_id="ada\n{}", reason="", revoked=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [line] = lines(path)
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "event": "audit",
        "action": "RevokeAll",
        "outcome": "OK",
        "caller": "support",
        "user_id": "ada\n{}",
        "revoked": 0,
    }


def test_every_act_makes_a_short_line(tmp_path: Path):
    path = tmp_path / "audit.log"
    many = [f"{number:03}{'x' * 100}" for number in range(40)]
    note(AuditLog(str(path)), claims=many, names=tuple(many[:2]), ids=path, raw=b"\xff", flag=True)
    [line] = lines(path)
    cut = [name[: audit_log.MAX_NAME_CHARACTERS] for name in many]
    assert line["claims"] == [*cut[: audit_log.MAX_NAMES], "(8 more)"]
    assert line["names"] == cut[:2]
    assert (line["ids"], line["raw"], line["flag"]) == (str(path), "b'\\xff'", True)


def test_two_processes_share_a_file(tmp_path: Path):
    path = tmp_path / "audit.log"
    first, second = AuditLog(str(path)), AuditLog(str(path))
    for number in range(3):
        note(first, user_id=f"first {number}")
        note(second, user_id=f"second {number}")
    assert len(lines(path)) == 6


@pytest.mark.parametrize("there", [True, False], ids=["recreated", "gone"])
def test_a_file_that_was_moved_is_no_longer_written(tmp_path: Path, there: bool):
    path, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    log = AuditLog(str(path))
    note(log, user_id="before")
    path.rename(moved)
    if there:
        path.touch(0o640)
    note(log, user_id="after")
    assert [line["user_id"] for line in lines(moved)] == ["before"]
    assert [line["user_id"] for line in lines(path)] == ["after"]


def test_a_full_disk_fails_no_act_and_is_logged_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
):
    path, moment, write = tmp_path / "audit.log", 100.0, os.write
    monkeypatch.setattr(audit_log, "monotonic", lambda: moment)
    log = AuditLog(str(path))

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for step in (0.0, 30.0, 29.0, 2.0):
        moment += step
        note(log, user_id="lost")
    assert [(line["event"], line["lost"]) for line in logged] == [
        ("audit_log_failed", 1),
        ("audit_log_failed", 4),
    ]
    monkeypatch.setattr(os, "write", write)
    note(log, user_id="ada")
    note(log, user_id="bob")
    assert [line.get("lost") for line in lines(path)] == [4, None]


def test_half_a_line_does_not_damage_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, write = tmp_path / "audit.log", os.write
    log = AuditLog(str(path))
    monkeypatch.setattr(os, "write", lambda to, data: write(to, data[:9]))
    note(log, user_id="torn")
    monkeypatch.setattr(os, "write", write)
    note(log, user_id="ada")
    assert json.loads(path.read_text().splitlines()[-1])["user_id"] == "ada"


def test_reads_and_refusals_are_limited_for_each_caller_but_acts_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, moment = tmp_path / "audit.log", 100.0
    monkeypatch.setattr(audit_log, "monotonic", lambda: moment)
    log = AuditLog(str(path))
    for _ in range(MAX_LIMITED_LINES_PER_SECOND + 5):
        note(log, "ListDevices", limited=True, caller="account")
        note(log, "RevokeAll", caller="account")
    note(log, "ListDevices", limited=True, caller="ops")
    found = [(line["action"], line["caller"]) for line in lines(path)]
    assert found.count(("ListDevices", "account")) == MAX_LIMITED_LINES_PER_SECOND
    assert found.count(("RevokeAll", "account")) == MAX_LIMITED_LINES_PER_SECOND + 5
    assert found.count(("ListDevices", "ops")) == 1
    moment = 101.0
    note(log, "ListDevices", limited=True, caller="account")
    assert lines(path)[-1]["left_out"] == 5


def test_long_texts_are_cut(tmp_path: Path):
    log = AuditLog(str(tmp_path / "audit.log"))
    note(log, user_id="a" * 70_000)
    [line] = lines(tmp_path / "audit.log")
    assert len(line["user_id"]) == MAX_TEXT_CHARACTERS


def test_the_log_can_be_standard_error(capsys: pytest.CaptureFixture[str]):
    note(AuditLog("stderr"), user_id="ada")
    assert json.loads(capsys.readouterr().err)["user_id"] == "ada"


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "no folder"])
def test_anything_but_a_regular_file_is_refused(tmp_path: Path, kind: str):
    path = tmp_path / "audit.log"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "none" / "audit.log"
    assert target_fault(str(path)) is not None
    with pytest.raises(AuditLogError, match="can't be written"):
        AuditLog(str(path))
    assert not (tmp_path / "other").exists()


def test_a_check_of_the_target_makes_no_file(tmp_path: Path):
    assert target_fault(str(tmp_path / "audit.log")) is None
    assert target_fault("stderr") is None
    assert list(tmp_path.iterdir()) == []
