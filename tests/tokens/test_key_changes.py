"""Key files are changed one at a time. A change that fails or makes no sense changes nothing."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from datetime import timedelta

import pytest

from session_authority.tokens import (
    Algorithm,
    KeyringError,
    KeyState,
    add_key,
    generate,
    load_keyring,
    promote,
    retire,
    revoke,
    revoke_keys,
)
from tests.tokens.harness import DAY, HOUR, LIFETIME, NOW, key_named, save

TICK = timedelta(microseconds=1)


def everything(directory):
    """The folder's files with their content, including hidden files."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_first_key_makes_the_folder(tmp_path):
    keys = tmp_path / "deep" / "keys"
    key = generate(Algorithm.EDDSA, NOW)
    add_key(keys, key)
    assert load_keyring(keys).keys == (key,)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()] == [0o600]
    promote(keys, key.kid, NOW)
    assert load_keyring(keys).signing == replace(key, promoted_at=NOW)
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()] == [0o600]


def test_a_new_key_replaces_no_other_key(keys):
    before = everything(keys)
    with pytest.raises(KeyringError, match="there is a key 'current' already"):
        add_key(keys, key_named("current"))
    assert everything(keys) == before


def test_a_promotion_writes_one_file(keys):
    before = everything(keys)
    promote(keys, "next", NOW)
    after = everything(keys)
    assert {name for name in after if after[name] != before.get(name)} == {"next.json"}
    ring = load_keyring(keys)
    assert ring.signing.kid == "next"
    assert ring.demoted("current") == NOW


def test_a_key_that_verifies_may_sign_again(keys):
    promote(keys, "old", NOW)
    ring = load_keyring(keys)
    assert ring.signing.kid == "old"
    assert ring.demoted("current") == NOW


@pytest.mark.parametrize("now", [NOW - DAY, NOW - 5 * DAY, NOW - 1000 * DAY])
def test_promotions_are_in_order_although_clocks_are_not(keys, now):
    promote(keys, "next", now)
    ring = load_keyring(keys)
    assert ring.signing.kid == "next"
    assert ring.signing.promoted_at == NOW - DAY + TICK


def test_a_revoked_promotion_counts_for_the_order(tmp_path):
    keys = save(
        tmp_path / "keys",
        key_named("a", NOW),
        key_named("b", NOW + DAY, revoked=NOW + DAY),
        key_named("c"),
    )
    promote(keys, "c", NOW + HOUR)
    assert load_keyring(keys).signing.promoted_at == NOW + DAY + TICK


@pytest.mark.parametrize(
    ("change", "kid", "rule"),
    [
        (promote, "current", "is signing already"),
        (promote, "leaked", "is revoked"),
        (promote, "other", "there is no key 'other'"),
        (promote, "../keys/next", "there is no key"),
        (revoke, "current", "promote another one first"),
        (revoke, "leaked", "is revoked already"),
        (revoke, "other", "there is no key 'other'"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(keys, change, kid, rule):
    before = everything(keys)
    with pytest.raises(KeyringError, match=rule):
        change(keys, kid, NOW)
    assert everything(keys) == before


def test_a_key_is_revoked(keys):
    revoke(keys, "old", NOW)
    ring = load_keyring(keys)
    assert ring.state("old") is KeyState.REVOKED
    assert ring.key("old").revoked_at == NOW
    revoke(keys, "next", NOW)
    assert load_keyring(keys).signing.kid == "current"


def test_a_signing_key_is_replaced_by_the_published_one_and_revoked(keys):
    save(keys, replace(key_named("younger"), created_at=NOW - DAY))
    revoke(keys, "current", NOW, replace=True)
    ring = load_keyring(keys)
    assert (ring.signing.kid, ring.signing.promoted_at) == ("next", NOW)
    assert ring.key("current").revoked_at == NOW
    assert ring.state("younger") is KeyState.PUBLISHED


@pytest.mark.parametrize("algorithm", [Algorithm.EDDSA, Algorithm.HS256])
def test_a_signing_key_is_replaced_by_a_new_one_of_its_algorithm_and_revoked(tmp_path, algorithm):
    keys = save(tmp_path / "keys", key_named("a", NOW - DAY, algorithm=algorithm))
    revoke(keys, "a", NOW, replace=True)
    ring = load_keyring(keys)
    assert len(ring.keys) == 2
    assert (ring.signing.algorithm, ring.signing.created_at, ring.signing.promoted_at) == (
        algorithm,
        NOW,
        NOW,
    )
    assert ring.state("a") is KeyState.REVOKED


def test_a_key_that_does_not_sign_needs_no_successor(keys):
    revoke(keys, "old", NOW, replace=True)
    ring = load_keyring(keys)
    assert (len(ring.keys), ring.signing.kid, ring.state("old")) == (4, "current", KeyState.REVOKED)


def test_a_whole_folder_that_leaked_is_replaced(keys):
    """None of the named keys may become the successor."""
    before = load_keyring(keys)
    revoke_keys(keys, [key.kid for key in before.keys], NOW, replace=True)
    ring = load_keyring(keys)
    assert ring.revoked() == {key.kid for key in before.keys}
    assert len(ring.keys) == 5
    assert ring.key("leaked").revoked_at == NOW - 9 * DAY, (
        "the key keeps the time of its revocation"
    )


def test_of_several_keys_none_is_revoked_if_one_cannot_be(keys):
    before = everything(keys)
    for kids, rule in (
        (["old", "current"], "promote another one first"),
        (["old", "other"], "no key 'other'"),
    ):
        with pytest.raises(KeyringError, match=rule):
            revoke_keys(keys, kids, NOW)
        assert everything(keys) == before
    with pytest.raises(KeyringError, match="no key 'other'"):
        revoke_keys(keys, ["current", "other"], NOW, replace=True)
    with pytest.raises(KeyringError, match="is revoked already"):
        revoke_keys(keys, ["leaked", "leaked"], NOW, replace=True)
    assert everything(keys) == before


@pytest.mark.parametrize("published", [True, False])
def test_a_replacement_that_crashes_leaves_a_signing_key_and_can_be_repeated(
    keys, monkeypatch, published
):
    class Crash(BaseException):
        pass

    if not published:
        retire(keys, "next", NOW, LIFETIME)
    replace_ = os.replace
    for written in range(10):  # Files that are written before the crash.
        left = written

        def crash(*args):
            nonlocal left
            if not left:
                raise Crash
            left -= 1
            replace_(*args)

        monkeypatch.setattr(os, "replace", crash)
        try:
            revoke_keys(keys, ["current", "old"], NOW, replace=True)
        except Crash:
            ring = load_keyring(keys)
            assert ring.signing.kid == "current" or ring.state("current") is not KeyState.SIGNING
            continue
        break
    ring = load_keyring(keys)
    assert ring.revoked() == {"current", "old", "leaked"}
    assert len(ring.keys) == 4, "one successor is enough"
    assert ring.signing.promoted_at == NOW


def test_a_revoked_key_stays_as_long_as_its_tokens_would(keys):
    """A key file that is gone revokes nothing on a host whose folder still has the file."""
    revoke(keys, "old", NOW)
    with pytest.raises(KeyringError, match=r"can be removed from 2026-03-08T13:00:30Z on"):
        retire(keys, "old", NOW + LIFETIME - TICK, LIFETIME)
    retire(keys, "old", NOW + LIFETIME, LIFETIME)
    assert "old.json" not in everything(keys)


def test_a_revoked_key_is_removed_early_by_force(keys):
    revoke(keys, "next", NOW)
    retire(keys, "next", NOW, LIFETIME, force=True)
    assert "next.json" not in everything(keys)


@pytest.mark.parametrize("kid", ["next", "leaked"])
def test_a_key_that_is_no_longer_needed_may_be_removed(keys, kid):
    retire(keys, kid, NOW, LIFETIME)
    assert f"{kid}.json" not in everything(keys)
    assert len(load_keyring(keys).keys) == 3


@pytest.mark.parametrize("force", [False, True])
def test_the_signing_key_cannot_be_removed(keys, force):
    with pytest.raises(KeyringError, match="promote another one first"):
        retire(keys, "current", NOW, LIFETIME, force=force)
    assert load_keyring(keys).signing.kid == "current"


def test_a_demoted_key_stays_as_long_as_its_tokens(keys):
    end = NOW - DAY + LIFETIME
    with pytest.raises(KeyringError, match=r"can be removed from 2026-03-07T13:00:30Z on"):
        retire(keys, "old", end - TICK, LIFETIME)
    assert load_keyring(keys).state("old") is KeyState.VERIFYING
    retire(keys, "old", end, LIFETIME)
    assert "old.json" not in everything(keys)


def test_a_demoted_key_is_removed_early_by_force(keys):
    retire(keys, "old", NOW, LIFETIME, force=True)
    assert "old.json" not in everything(keys)


def test_an_unknown_key_cannot_be_removed(keys):
    with pytest.raises(KeyringError, match="there is no key 'other'"):
        retire(keys, "other", NOW, LIFETIME, force=True)


def test_a_single_file_is_not_changed(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [key_named("a").to_json(), key_named("b", NOW).to_json()]}))
    before = file.read_bytes()
    for change in (
        lambda: add_key(file, key_named("c")),
        lambda: promote(file, "a", NOW),
        lambda: revoke(file, "a", NOW),
        lambda: retire(file, "a", NOW, LIFETIME),
    ):
        with pytest.raises(KeyringError, match="is a single file"):
            change()
    assert file.read_bytes() == before


def test_a_folder_whose_name_is_too_long_is_named(tmp_path):
    with pytest.raises(KeyringError, match="File name too long"):
        add_key(tmp_path / ("k" * 300), key_named("a"))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_change_that_fails_half_way_leaves_the_old_keys(keys, monkeypatch, step):
    before = everything(keys)

    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    for change in (lambda: promote(keys, "next", NOW), lambda: add_key(keys, key_named("more"))):
        with pytest.raises(KeyringError, match="can't be written: No space left on device"):
            change()
        assert everything(keys) == before


def test_a_change_that_crashes_half_way_leaves_the_old_keys(keys, monkeypatch):
    """The clean-up does not run either: the file that is left over is hidden, and only its owner
    can read it.
    """

    class Crash(BaseException):
        pass

    def crash(*_args):
        monkeypatch.setattr(os, "unlink", crash)
        raise Crash

    before = load_keyring(keys).keys
    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(Crash):
        promote(keys, "next", NOW)
    monkeypatch.undo()
    assert load_keyring(keys).keys == before
    (left,) = (path for path in keys.iterdir() if path.name.startswith("."))
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    promote(keys, "next", NOW)


def test_a_file_is_safe_on_disk_before_it_counts(keys, monkeypatch):
    steps = []
    fsync, replace_ = os.fsync, os.replace

    def noted_fsync(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(*args):
        steps.append("replace")
        replace_(*args)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    promote(keys, "next", NOW)
    assert steps == ["file", "replace", "folder"]
