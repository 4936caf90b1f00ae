"""`restored` voids the tokens that were issued before Redis was restored, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from session_authority.runtime.clock import now
from session_authority.tokens import Algorithm, KeyState, add_key, generate, load_keyring, promote
from tests.cli.harness import call, fault


def states(folder: Path) -> dict[str, KeyState]:
    ring = load_keyring(folder)
    return {key.kid: ring.state(key.kid) for key in ring.keys}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with three keys: one verifies, one signs, and one is published."""
    folder, present = tmp_path / "keys", now()
    for days, algorithm in ((3, Algorithm.EDDSA), (2, Algorithm.ES256), (1, Algorithm.EDDSA)):
        key = generate(algorithm, present - timedelta(days=days))
        add_key(folder, key)
        if days > 1:
            promote(folder, key.kid, key.created_at)
    return folder


def test_all_keys_that_signed_are_revoked_and_a_new_key_signs(keys: Path):
    before = states(keys)
    result = call("restored", "--dir", keys)
    assert result.exit_code == 0, result.stderr
    after = states(keys)
    [fresh] = after.keys() - before.keys()
    assert after == {
        fresh: KeyState.SIGNING,
        **{
            kid: KeyState.PUBLISHED if state is KeyState.PUBLISHED else KeyState.REVOKED
            for kid, state in before.items()
        },
    }
    assert load_keyring(keys).signing.algorithm is Algorithm.ES256
    for kid, state in before.items():
        assert (f"{kid} is revoked." in result.stdout) is (state is not KeyState.PUBLISHED)
    assert "All tokens that were issued before" in result.stdout
    assert f"{fresh} signs." in result.stdout


def test_a_second_call_for_the_same_restore_changes_nothing(keys: Path):
    at = now().isoformat()
    assert call("restored", "--at", at, "--dir", keys).exit_code == 0
    after = states(keys)
    again = call("restored", "--at", at, "--dir", keys)
    assert (again.exit_code, states(keys)) == (0, after)
    assert "No token is left that was issued before" in again.stdout


def test_a_second_call_completes_what_a_crash_interrupted(keys: Path):
    at = now()
    fresh = generate(Algorithm.ES256, now())
    add_key(keys, fresh)
    promote(keys, fresh.kid, now())  # the first call came this far
    assert call("restored", "--at", at.isoformat(), "--dir", keys).exit_code == 0
    assert states(keys)[fresh.kid] is KeyState.SIGNING
    assert KeyState.VERIFYING not in states(keys).values()


def test_a_key_from_after_the_restore_keeps_signing(keys: Path):
    signing = load_keyring(keys).signing.kid
    at = now() - timedelta(days=2, hours=1)
    assert call("restored", "--at", at.isoformat(), "--dir", keys).exit_code == 0
    after = states(keys)
    assert after.pop(signing) is KeyState.SIGNING
    assert set(after.values()) == {KeyState.REVOKED, KeyState.PUBLISHED}


@pytest.mark.parametrize("at", ["yesterday", "2026-11-24T09:30:00", "7d", ""])
def test_a_time_without_a_zone_is_refused(keys: Path, at: str):
    before = states(keys)
    assert fault(call("restored", "--at", at, "--dir", keys)) == (
        2,
        "--at: must be a time with its zone, like 2026-11-24T09:30:00Z",
    )
    assert states(keys) == before


def test_a_restore_in_the_future_is_refused(keys: Path):
    before = states(keys)
    at = (now() + timedelta(hours=1)).isoformat()
    assert fault(call("restored", "--at", at, "--dir", keys)) == (2, "--at: is in the future")
    assert states(keys) == before


def test_without_a_key_folder_the_error_names_the_option():
    code, text = fault(call("restored"))
    assert (code, "--dir" in text) == (2, True)
