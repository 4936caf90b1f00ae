"""Key files: all of them are read or none. Only the owner may change them, and only the owner and
the group may read them.
"""

from __future__ import annotations

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from session_authority.tokens import (
    KeyringError,
    KeySource,
    KeyState,
    add_key,
    exposed,
    load_keyring,
)
from tests.tokens.harness import NOW, key_named, save


def test_a_folder_and_a_file_hold_the_same_keys(tmp_path, keys):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [json.loads(path.read_text()) for path in keys.iterdir()]}))
    assert load_keyring(file).keys == load_keyring(keys).keys
    assert load_keyring(keys).signing.kid == "current"


def test_hidden_files_are_ignored(keys):
    (keys / ".current.json.tmp").write_text("{")
    (keys / "..data").mkdir()
    assert len(load_keyring(keys).keys) == 4


def test_a_mounted_secret_is_read_through_its_links(tmp_path):
    """Kubernetes mounts a secret this way: the names are links, through one hidden link that is
    replaced.
    """
    mount = tmp_path / "mount"
    save(tmp_path / "mount", key_named("a", NOW)).joinpath("a.json").unlink()
    for version, key in enumerate([key_named("a", NOW), key_named("a", NOW, revoked=NOW)]):
        save(mount / f"..{version}", key)
    (mount / "..data").symlink_to("..0")
    (mount / "a.json").symlink_to("..data/a.json")
    source = KeySource(mount)
    (mount / "..new").symlink_to("..1")
    (mount / "..new").replace(mount / "..data")
    assert source.refresh()
    assert source.current.state("a") is KeyState.REVOKED


@pytest.mark.parametrize(
    ("name", "contents", "rule"),
    [
        ("README", "hello", "its name does not end with .json"),
        ("a.JSON", "{}", "its name does not end with .json"),
        ("a.json", "{", "is not a JSON object"),
        ("a.json", '{"kid": "a", "kid": "a"}', "unique members"),
        ("a.json", "[]", "is not a JSON object"),
        ("a.json", "\N{ZERO WIDTH NO-BREAK SPACE}{}", "is not a JSON object"),
        ("a.json", "[" * 100_000, "is not a JSON object"),
        ("a.json", json.dumps(key_named("b").to_json()), "must have the name b.json"),
    ],
)
def test_a_stray_file_breaks_the_folder(keys, name, contents, rule):
    (keys / name).write_text(contents)
    with pytest.raises(KeyringError) as caught:
        load_keyring(keys)
    assert caught.value.faults == (str(caught.value),)
    assert str(caught.value).startswith(f"{keys / name}: ")
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "rule"),
    [
        ({}, "must hold"),
        ({"keys": {}}, "must hold"),
        ({"keys": [key_named("a").to_json()], "more": 1}, "must hold"),
        (key_named("a").to_json(), "must hold"),
        ([], "is not a JSON object"),
        ({"keys": []}, "holds no key"),
        ({"keys": ["a"]}, r"keys\[0\]: a key must be a JSON object"),
        ({"keys": [key_named("a").to_json()] * 2}, "two keys have the same kid"),
    ],
)
def test_a_file_holds_keys_and_nothing_else(tmp_path, contents, rule):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(contents))
    with pytest.raises(KeyringError, match=rule):
        load_keyring(file)


def test_every_fault_is_named_at_once(tmp_path, keys):
    (keys / "current.json").write_text("{")
    (keys / "note.txt").write_text("")
    value = {**key_named("next").to_json(), "created": "yesterday", "alg": "none"}
    (keys / "next.json").write_text(json.dumps(value))
    with pytest.raises(KeyringError) as caught:
        load_keyring(keys)
    assert len(caught.value.faults) == 4
    for name in ("current.json", "note.txt", "next.json: created", "next.json: alg"):
        assert name in str(caught.value)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [value, value]}))
    with pytest.raises(
        KeyringError, match=r"keys\[0\]: created.*keys\[0\]: alg.*keys\[1\]: created"
    ):
        load_keyring(file)


def test_the_content_of_a_cut_file_is_quoted_nowhere(keys):
    """It is not quoted in the cause of the exception either: a decoder's error holds the whole
    text.
    """
    text = (keys / "current.json").read_text()
    (keys / "current.json").write_text(text[:-1])
    with pytest.raises(KeyringError) as caught:
        load_keyring(keys)
    secret = json.loads(text)["jwk"]["k"]
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in f"{error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


def test_a_folder_without_keys_is_a_fault(tmp_path):
    with pytest.raises(KeyringError, match="holds no key"):
        load_keyring(tmp_path)
    with pytest.raises(KeyringError, match="No such file"):
        load_keyring(tmp_path / "nothing")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(KeyringError, match="Is a directory"):
        load_keyring(tmp_path)


@pytest.fixture
def closed(tmp_path):
    """A folder as the command makes it, with a name that needs quotes."""
    folder = tmp_path / "the keys"
    for kid in ("a", "b"):
        add_key(folder, key_named(kid))
    return folder


def test_new_keys_are_readable_only_by_their_owner(closed):
    assert exposed(closed) == []
    assert exposed(closed / "a.json") == []


def test_files_may_be_read_by_their_group(closed):
    closed.chmod(0o750)
    for path in closed.iterdir():
        path.chmod(0o440)
    assert exposed(closed) == []


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o601, 0o602, 0o620, 0o660, 0o777])
def test_files_that_other_users_can_read_are_named_and_can_be_closed(closed, mode):
    (closed / "b.json").chmod(mode)
    [fault] = exposed(closed)
    assert exposed(closed / "b.json") == [fault]
    assert fault.startswith(
        f"{closed / 'b.json'}: its mode {mode:04o} lets others at the keys; mend it: chmod "
    )
    closed.chmod(mode | 0o700)
    assert len(exposed(closed)) == 2, "the folder too"
    for fault in exposed(closed):
        subprocess.run(["bash", "-c", fault.partition("mend it: ")[2]], check=True)
    assert exposed(closed) == []
    assert load_keyring(closed).keys


def test_a_link_is_judged_by_its_target(tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir(0o700)
    save(mount / "..1", key_named("a", NOW))
    (mount / "..data").symlink_to("..1")
    (mount / "a.json").symlink_to("..data/a.json")
    (mount / "..1" / "a.json").chmod(0o644)
    [fault] = exposed(mount)
    assert fault.startswith(f"{mount / 'a.json'}: its mode 0644")
    (mount / "..1" / "a.json").chmod(0o440)
    assert exposed(mount) == []


def test_a_folder_that_is_mounted_read_only_may_have_any_mode(closed, monkeypatch):
    closed.chmod(0o1777)
    assert len(exposed(closed)) == 1
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID)
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert exposed(closed) == []
    (closed / "a.json").chmod(0o644)
    assert len(exposed(closed)) == 1, "the files of the folder must still be closed"


def test_another_user_s_files_are_not_changed(closed, monkeypatch):
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    if mine == 0:
        assert exposed(closed) == [], "files of root are trusted"
        os.chown(closed / "a.json", 2, -1)
        path = closed / "a.json"
        fault = f"{path}: belongs to another user (2), who can change it; mend it: chown 1 '{path}'"
        assert exposed(closed) == [fault]
    else:
        assert len(exposed(closed)) == 3


def test_missing_files_cannot_be_checked(tmp_path):
    with pytest.raises(KeyringError, match="No such file"):
        exposed(tmp_path / "nothing")
    (tmp_path / "a.json").symlink_to("nothing")
    with pytest.raises(KeyringError, match="No such file"):
        exposed(tmp_path)
