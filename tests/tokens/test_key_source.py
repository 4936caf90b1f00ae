"""A source of keys notices that the files changed, and reads them again for a key that it does not
know.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from session_authority.tokens import (
    Keyring,
    KeyringError,
    KeySource,
    add_key,
    load_keyring,
    promote,
    retire,
)
from session_authority.tokens.keyfiles import fingerprint
from session_authority.tokens.keyring import SEEK_INTERVAL
from tests.tokens.harness import DAY, HOUR, LIFETIME, NOW, key_named, save


def test_a_source_follows_its_folder(keys):
    source = KeySource(keys)
    assert (source.version, source.refresh(), source.version) == (0, False, 0)
    first = source.current
    promote(keys, "next", NOW)
    assert source.current is first
    assert (source.refresh(), source.version) == (True, 1)
    assert source.current.signing.kid == "next"
    assert (source.refresh(), source.version) == (False, 1)
    retire(keys, "leaked", NOW, LIFETIME)
    assert (source.refresh(), source.version) == (True, 2)
    add_key(keys, key_named("more"))
    assert (source.refresh(), source.version) == (True, 3)


def test_a_source_follows_its_file(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [key_named("a", NOW).to_json()]}))
    source = KeySource(file)
    assert not source.refresh()
    file.write_text(
        json.dumps({"keys": [key_named("a", NOW).to_json(), key_named("b", NOW + DAY).to_json()]})
    )
    assert source.refresh()
    assert source.current.signing.kid == "b"


def test_a_replaced_file_of_the_same_size_and_time_is_noticed(keys):
    source = KeySource(keys)
    path = keys / "current.json"
    times = path.stat()
    text = path.read_text()
    save(keys.parent / "new", replace(key_named("current", NOW - DAY + HOUR)))
    (keys.parent / "new" / "current.json").replace(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == len(text)
    assert source.refresh()


def test_broken_keys_change_nothing_and_are_reported_until_they_are_mended(keys):
    source = KeySource(keys)
    ring = source.current
    good = (keys / "current.json").read_text()
    (keys / "current.json").write_text("{")
    for _ in range(2):
        with pytest.raises(KeyringError, match=r"current\.json"):
            source.refresh()
        assert (source.current, source.version) == (ring, 0)
    (keys / "current.json").write_text(good)
    promote(keys, "next", NOW)
    assert source.refresh()
    assert (source.current.signing.kid, source.version) == ("next", 1)


def test_vanished_keys_are_broken_keys(keys):
    source = KeySource(keys)
    moved = keys.rename(keys.parent / "away")
    with pytest.raises(KeyringError, match="No such file"):
        source.refresh()
    keys.mkdir()
    with pytest.raises(KeyringError, match="holds no key"):
        source.refresh()
    assert source.current.signing.kid == "current"
    keys.rmdir()
    moved.rename(keys)
    assert not source.refresh()


def test_a_change_during_a_read_is_noticed_the_next_time(keys, monkeypatch):
    source = KeySource(keys)
    promote(keys, "next", NOW)

    def read_and_change(path):
        monkeypatch.undo()
        ring = load_keyring(path)
        promote(keys, "old", NOW + DAY)
        return ring

    monkeypatch.setattr("session_authority.tokens.keyring.load_keyring", read_and_change)
    assert source.refresh()
    assert source.current.signing.kid == "next"
    assert source.refresh()
    assert source.current.signing.kid == "old"


@pytest.fixture
def looks(monkeypatch):
    """The looks at the states of the key files."""
    seen = []

    def noted(path):
        seen.append(path)
        return fingerprint(path)

    monkeypatch.setattr("session_authority.tokens.keyring.fingerprint", noted)
    return seen


def test_an_unknown_key_is_found_at_once(keys):
    source = KeySource(keys)
    add_key(keys, key_named("more"))
    source.seek("more", NOW)
    assert "more" in source.current
    assert source.version == 1
    assert not source.refresh()


def test_a_known_key_causes_no_read(keys, looks):
    source = KeySource(keys)
    looks.clear()
    for key in source.current.keys:
        source.seek(key.kid, NOW)
    assert looks == []


def test_invented_key_names_cause_a_limited_number_of_reads(keys, looks):
    source = KeySource(keys)
    looks.clear()
    for number in range(1000):  # In one second.
        source.seek(f"made-up-{number}", NOW + number * timedelta(milliseconds=1))
    assert len(looks) == 10
    add_key(keys, key_named("more"))
    source.seek("more", NOW + timedelta(milliseconds=999))
    assert "more" not in source.current
    source.seek("more", NOW + timedelta(milliseconds=1000))
    assert "more" in source.current


def test_a_clock_that_is_set_back_stops_no_read(keys):
    source = KeySource(keys)
    source.seek("more", NOW)
    add_key(keys, key_named("more"))
    source.seek("more", NOW - DAY)
    assert "more" in source.current


def test_invented_key_names_have_broken_files_read_once(keys, monkeypatch):
    source = KeySource(keys)
    (keys / "current.json").write_text("{")
    reads = []

    def noted(path):
        reads.append(path)
        return load_keyring(path)

    monkeypatch.setattr("session_authority.tokens.keyring.load_keyring", noted)
    for number in range(10):
        source.seek("more", NOW + number * SEEK_INTERVAL)
    assert len(reads) == 1
    assert (source.version, source.current.signing.kid) == (0, "current")
    with pytest.raises(KeyringError, match=r"current\.json"):
        source.refresh()
    save(keys, key_named("current", NOW - DAY), key_named("more"))
    source.seek("more", NOW + DAY)
    assert "more" in source.current


def test_a_source_needs_good_keys_to_start(tmp_path):
    with pytest.raises(KeyringError):
        KeySource(tmp_path)
    with pytest.raises(KeyringError):
        KeySource(tmp_path / "nothing")


def test_without_a_signing_key_a_source_still_verifies(tmp_path):
    """A revocation must count even if no key is left to sign with."""
    keys = save(tmp_path / "keys", key_named("a", NOW), key_named("b"))
    source = KeySource(keys)
    save(keys, key_named("a", NOW, revoked=NOW))
    assert source.refresh()
    assert isinstance(source.current, Keyring)
    assert source.current.verifier("a", NOW, LIFETIME) is None
    assert source.current.verifier("b", NOW, LIFETIME) is not None
