"""Commands write to the audit log what they did, and which user of the system ran them."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import call


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_commands_on_keys_and_callers_are_audited_with_their_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
    audit = tmp_path / "audit.log"
    keys, tokens = tmp_path / "keys", tmp_path / "tokens"
    for arguments in (
        ("keys", "generate", "--promote", "--dir", keys),
        ("keys", "revoke", "no-such-key", "--dir", keys),
        ("callers", "add", "gateway", "--tokens", tokens),
        ("callers", "list", "--tokens", tokens),
        ("callers", "remove", "gateway", "--tokens", tokens),
        ("restored", "--dir", keys),
    ):
        call(*arguments, AUDIT_LOG=audit)
    found = lines(audit)
    assert [(line["action"], line["outcome"]) for line in found] == [
        ("keys generate", "OK"),
        ("keys revoke", "FAILED"),
        ("callers add", "OK"),
        ("callers remove", "OK"),
        ("restored", "OK"),
    ]
    me = f"user:{pwd.getpwuid(os.getuid()).pw_name}"
    assert {(line["caller"], line["peer"]) for line in found} == {(me, "ssh:192.0.2.7")}
    assert found[0]["promote"] is True
    [kid] = found[0]["key_ids"]
    assert found[-1]["key_ids"] == [kid]
    assert found[1]["key_ids"] == ["no-such-key"]
    assert (found[2]["of_caller"], len(found[2]["token_id"])) == ("gateway", 8)
    assert "sacall_" not in audit.read_text()


@pytest.mark.parametrize("target", ["none/audit.log", "."])
def test_an_audit_log_that_cannot_be_written_stops_no_command(tmp_path: Path, target: str):
    result = call("keys", "generate", "--dir", tmp_path / "keys", AUDIT_LOG=tmp_path / target)
    assert result.exit_code == 0
    assert result.stderr.startswith("The audit log has no line of this: ")


def test_commands_write_no_audit_lines_to_standard_error(tmp_path: Path):
    result = call("keys", "generate", "--dir", tmp_path / "keys", AUDIT_LOG="stderr")
    assert (result.exit_code, result.stderr) == (0, "")
