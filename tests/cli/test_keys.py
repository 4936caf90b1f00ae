"""The commands that make, list, promote, revoke and retire signing keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from session_authority.tokens import Algorithm, load_keyring
from tests.cli.harness import call, fault


def table(folder: Path) -> dict[str, str]:
    """Returns the state of each key, as `keys list` prints it."""
    result = call("keys", "list", "--dir", str(folder))
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()
    assert header.split() == [
        "key",
        "ID",
        "algorithm",
        "state",
        "created",
        "promoted",
        "demoted",
        "revoked",
    ]
    return {row.split()[0]: row.split()[2] for row in rows}


def test_a_key_is_generated_promoted_replaced_and_retired(tmp_path: Path):
    folder = tmp_path / "keys"
    first = call("keys", "generate", "--dir", str(folder))
    assert first.exit_code == 0
    kid = first.stdout.strip()
    assert table(folder) == {kid: "published"}
    assert "No key signs: promote one." in call("keys", "list", "--dir", str(folder)).stderr

    promoted = call("keys", "promote", kid, "--dir", str(folder))
    assert (promoted.exit_code, promoted.stdout) == (0, f"{kid} signs.\n")
    assert call("keys", "list", "--dir", str(folder)).stderr == ""

    second = call(
        "keys", "generate", "--dir", str(folder), "--algorithm", "ES256", "--promote"
    ).stdout.strip()
    assert table(folder) == {kid: "verifying", second: "signing"}
    assert load_keyring(folder).signing.algorithm is Algorithm.ES256

    code, text = fault(call("keys", "retire", kid, "--dir", str(folder)))
    assert code == 1
    assert "may still be presented" in text
    retired = call("keys", "retire", kid, "--dir", str(folder), "--force")
    assert (retired.exit_code, retired.stdout) == (0, f"{kid} is gone.\n")
    assert table(folder) == {second: "signing"}


def test_key_ids_are_listed_by_state(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    first, second, third = (
        call("keys", "generate", *promote, *folder).stdout.strip()
        for promote in (("--promote",), ("--promote",), ())
    )

    def ids(*states: str) -> list[str]:
        named = [text for state in states for text in ("--state", state)]
        result = call("keys", "list", "--ids", *named, *folder)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.splitlines()

    assert ids("signing") == [second]
    assert ids("verifying", "published") == [first, third]
    assert ids("revoked") == []
    assert ids() == [first, second, third]


def test_keys_are_listed_as_json(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    call("keys", "generate", "--promote", *folder)
    call("keys", "generate", *folder)
    result = call("keys", "list", "--json", *folder)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    ring = load_keyring(tmp_path / "keys")
    assert [row["state"] for row in rows] == ["signing", "published"]
    assert {row["key_id"] for row in rows} == {key.kid for key in ring.keys}
    assert rows[0]["created_at"] == f"{ring.signing.created_at:%Y-%m-%dT%H:%M:%SZ}"
    assert rows[0].keys() == {
        "key_id", "algorithm", "state", "created_at", "promoted_at", "demoted_at", "revoked_at",
    }  # fmt: skip
    assert rows[1]["promoted_at"] is None


def test_a_leaked_key_is_revoked_and_replaced(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    leaked = call("keys", "generate", "--promote", *folder).stdout.strip()
    assert fault(call("keys", "revoke", leaked, *folder)) == (
        1,
        f"the key {leaked!r} is signing: promote another one first, or use --replace",
    )
    result = call("keys", "revoke", leaked, "--replace", *folder)
    assert (result.exit_code, result.stderr) == (0, "")
    states = table(tmp_path / "keys")
    assert states.pop(leaked) == "revoked"
    [(successor, state)] = states.items()
    assert state == "signing"
    ring = load_keyring(tmp_path / "keys")
    since = ring.key(leaked).revoked_at
    assert since is not None
    told = f"{leaked} is revoked since {since:%Y-%m-%d %H:%M:%SZ}. All that it ever signed is void."
    assert result.stdout.startswith(told)
    for meaning in (
        "within a second",
        "for renewal too",
        "must sign in again",
        f"{successor} signs.\n",
    ):
        assert meaning in result.stdout
    assert f"{since:%H:%M:%SZ}" in call("keys", "list", *folder).stdout
    for more in ([], ["--replace"]):
        assert fault(call("keys", "revoke", leaked, *folder, *more)) == (
            1,
            f"the key {leaked!r} is revoked already",
        )
    code, text = fault(call("keys", "retire", leaked, *folder))
    assert (code, "may still be presented" in text) == (1, True)


def test_several_leaked_keys_are_revoked_at_once(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    leaked = [
        call("keys", "generate", *more, *folder).stdout.strip() for more in ([], ["--promote"])
    ]
    result = call("keys", "revoke", *leaked, "--replace", *folder)
    assert "It has signed nothing." in result.stdout
    assert sorted(table(tmp_path / "keys").values()) == ["revoked", "revoked", "signing"]


def test_a_revocation_that_leaves_no_key_signing_says_so(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    kid = call("keys", "generate", *folder).stdout.strip()
    result = call("keys", "revoke", kid, *folder)
    assert (result.exit_code, result.stderr) == (0, "No key signs: promote one.\n")


def test_a_promotion_prints_a_warning_if_a_server_may_not_know_the_key(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    assert call("keys", "generate", "--promote", *folder).stderr == "", (
        "the first key replaces no other key"
    )
    second = call("keys", "generate", "--promote", *folder)
    assert "They then refuse the tokens that it signs." in second.stderr
    young = call("keys", "generate", *folder).stdout.strip()
    result = call("keys", "promote", young, *folder)
    assert (result.exit_code, result.stdout) == (0, f"{young} signs.\n")
    assert result.stderr.startswith(f"{young} was made ")
    path = tmp_path / "keys" / f"{call('keys', 'generate', *folder).stdout.strip()}.json"
    key = json.loads(path.read_text())
    path.write_text(json.dumps({**key, "created": "2026-01-01T00:00:00Z"}))
    assert call("keys", "promote", key["kid"], *folder).stderr == ""


def test_errors_of_key_commands_are_one_line(tmp_path: Path):
    folder = tmp_path / "keys"
    kid = call("keys", "generate", "--dir", str(folder), "--promote").stdout.strip()
    assert fault(call("keys", "promote", kid, "--dir", str(folder))) == (
        1,
        f"the key {kid!r} is signing already",
    )
    assert fault(call("keys", "promote", "nobody", "--dir", str(folder))) == (
        1,
        "there is no key 'nobody'",
    )
    code, text = fault(call("keys", "retire", kid, "--dir", str(folder), "--force"))
    assert (code, "promote another one first" in text) == (1, True)
    assert fault(call("keys", "list", "--dir", str(tmp_path / "nowhere")))[0] == 1
    assert fault(call("keys", "list")) == (
        2,
        "name the key folder with --dir or SESSION_AUTHORITY_KEYS",
    )
    (tmp_path / "file").write_text("{}")
    assert fault(call("keys", "generate", "--dir", str(tmp_path / "file")))[0] == 1


def test_each_key_is_one_line_on_a_narrow_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    kids = [
        call("keys", "generate", "--dir", str(tmp_path / "keys")).stdout.strip() for _ in range(2)
    ]
    assert table(tmp_path / "keys") == dict.fromkeys(kids, "published")


def test_the_key_folder_may_come_from_the_settings(tmp_path: Path):
    folder = tmp_path / "keys"
    kid = call("keys", "generate", "--promote", KEYS=str(folder)).stdout.strip()
    assert table(folder) == {kid: "signing"}
    assert kid in call("keys", "list", KEYS=str(folder)).stdout


def test_only_the_owner_can_read_key_files(tmp_path: Path):
    call("keys", "generate", "--dir", str(tmp_path / "keys"))
    for path in (tmp_path / "keys", *(tmp_path / "keys").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_key_files_that_others_can_read_cause_a_warning(tmp_path: Path):
    folder = tmp_path / "keys"
    kid = call("keys", "generate", "--promote", "--dir", str(folder)).stdout.strip()
    (folder / f"{kid}.json").chmod(0o644)
    result = call("keys", "list", "--dir", str(folder))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{folder / kid}.json: its mode 0644")
    assert "chmod" in result.stderr
