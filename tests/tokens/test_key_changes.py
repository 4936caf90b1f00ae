"""Key files: reading all of them or none, changing one at a time, and noticing that they
changed.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from session_authority.tokens import (
    Algorithm,
    Keyring,
    KeyringError,
    KeySource,
    KeyState,
    add_key,
    exposed,
    generate,
    load_keyring,
    promote,
    retire,
    revoke,
    revoke_keys,
)
from session_authority.tokens.keyfiles import fingerprint
from session_authority.tokens.keyring import SEEK_INTERVAL
from tests.tokens.harness import DAY, HOUR, LIFETIME, NOW, key_named, save

TICK = timedelta(microseconds=1)


def everything(directory):
    """The folder's files, hidden ones too, and what is in them."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def keys(tmp_path):
    """A folder with a signing key, one that it demoted, one to come, and one that leaked."""
    return save(
        tmp_path / "keys",
        key_named("old", NOW - 20 * DAY),
        key_named("current", NOW - DAY),
        key_named("next"),
        key_named("leaked", NOW - 10 * DAY, revoked=NOW - 9 * DAY),
    )


# ----- reading


def test_a_folder_and_a_file_hold_the_same(tmp_path, keys):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [json.loads(path.read_text()) for path in keys.iterdir()]}))
    assert load_keyring(file).keys == load_keyring(keys).keys
    assert load_keyring(keys).signing.kid == "current"


def test_hidden_files_are_none_of_ours(keys):
    (keys / ".current.json.tmp").write_text("{")
    (keys / "..data").mkdir()
    assert len(load_keyring(keys).keys) == 4


def test_a_mounted_secret_is_read_through_its_links(tmp_path):
    """As Kubernetes mounts it: the names are links, by way of one hidden link that is swapped."""
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


def test_a_cut_file_is_quoted_nowhere(keys):
    """Not even in an exception behind the exception: a decoder's error holds the whole text."""
    text = (keys / "current.json").read_text()
    (keys / "current.json").write_text(text[:-1])
    with pytest.raises(KeyringError) as caught:
        load_keyring(keys)
    secret = json.loads(text)["jwk"]["k"]
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in f"{error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


def test_no_keys_is_a_fault(tmp_path):
    with pytest.raises(KeyringError, match="holds no key"):
        load_keyring(tmp_path)
    with pytest.raises(KeyringError, match="No such file"):
        load_keyring(tmp_path / "nothing")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(KeyringError, match="Is a directory"):
        load_keyring(tmp_path)


# ----- who else gets at them


@pytest.fixture
def closed(tmp_path):
    """A folder as the command makes it, in which a name needs quotes."""
    folder = tmp_path / "the keys"
    for kid in ("a", "b"):
        add_key(folder, key_named(kid))
    return folder


def test_keys_as_they_are_made_are_closed(closed):
    assert exposed(closed) == []
    assert exposed(closed / "a.json") == []


def test_files_may_be_read_by_their_group(closed):
    closed.chmod(0o750)
    for path in closed.iterdir():
        path.chmod(0o440)
    assert exposed(closed) == []


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o601, 0o602, 0o620, 0o660, 0o777])
def test_what_others_get_at_is_named_and_mended(closed, mode):
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


def test_links_are_as_open_as_what_they_lead_to(tmp_path):
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


def test_a_folder_that_is_mounted_for_reading_only_may_have_any_mode(closed, monkeypatch):
    closed.chmod(0o1777)
    assert len(exposed(closed)) == 1
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID)
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert exposed(closed) == []
    (closed / "a.json").chmod(0o644)
    assert len(exposed(closed)) == 1, "its files may not"


def test_another_users_files_are_theirs_to_change(closed, monkeypatch):
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    if mine == 0:
        assert exposed(closed) == [], "root's are trusted"
        os.chown(closed / "a.json", 2, -1)
        assert exposed(closed) == [
            (
                f"{closed / 'a.json'}: belongs to another user (2), who can change it; mend it: chown 1"
                f" '{closed / 'a.json'}'"
            )
        ]
    else:
        assert len(exposed(closed)) == 3


def test_what_is_not_there_can_not_be_looked_at(tmp_path):
    with pytest.raises(KeyringError, match="No such file"):
        exposed(tmp_path / "nothing")
    (tmp_path / "a.json").symlink_to("nothing")
    with pytest.raises(KeyringError, match="No such file"):
        exposed(tmp_path)


# ----- changing


def test_the_first_key_makes_the_folder(tmp_path):
    keys = tmp_path / "deep" / "keys"
    key = generate(Algorithm.EDDSA, NOW)
    add_key(keys, key)
    assert load_keyring(keys).keys == (key,)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()] == [0o600]
    promote(keys, key.kid, NOW)
    assert load_keyring(keys).signing == replace(key, promoted=NOW)
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()] == [0o600]


def test_a_key_is_not_written_over_another(keys):
    before = everything(keys)
    with pytest.raises(KeyringError, match="there is a key 'current' already"):
        add_key(keys, key_named("current"))
    assert everything(keys) == before


def test_a_promotion_is_one_file(keys):
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
def test_promotions_are_in_order_though_clocks_are_not(keys, now):
    promote(keys, "next", now)
    ring = load_keyring(keys)
    assert ring.signing.kid == "next"
    assert ring.signing.promoted == NOW - DAY + TICK


def test_a_revoked_promotion_counts_for_the_order(tmp_path):
    keys = save(
        tmp_path / "keys",
        key_named("a", NOW),
        key_named("b", NOW + DAY, revoked=NOW + DAY),
        key_named("c"),
    )
    promote(keys, "c", NOW + HOUR)
    assert load_keyring(keys).signing.promoted == NOW + DAY + TICK


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


def test_revoking(keys):
    revoke(keys, "old", NOW)
    ring = load_keyring(keys)
    assert ring.state("old") is KeyState.REVOKED
    assert ring.key("old").revoked == NOW
    revoke(keys, "next", NOW)
    assert load_keyring(keys).signing.kid == "current"


def test_a_signing_key_is_replaced_by_the_published_one_and_revoked(keys):
    save(keys, replace(key_named("younger"), created=NOW - DAY))
    revoke(keys, "current", NOW, replace=True)
    ring = load_keyring(keys)
    assert (ring.signing.kid, ring.signing.promoted) == ("next", NOW)
    assert ring.key("current").revoked == NOW
    assert ring.state("younger") is KeyState.PUBLISHED


@pytest.mark.parametrize("algorithm", [Algorithm.EDDSA, Algorithm.HS256])
def test_or_by_a_fresh_one_of_its_algorithm(tmp_path, algorithm):
    keys = save(tmp_path / "keys", key_named("a", NOW - DAY, algorithm=algorithm))
    revoke(keys, "a", NOW, replace=True)
    ring = load_keyring(keys)
    assert len(ring.keys) == 2
    assert (ring.signing.algorithm, ring.signing.created, ring.signing.promoted) == (
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
    """No key of those named may succeed."""
    before = load_keyring(keys)
    revoke_keys(keys, [key.kid for key in before.keys], NOW, replace=True)
    ring = load_keyring(keys)
    assert ring.revoked() == {key.kid for key in before.keys}
    assert len(ring.keys) == 5
    assert ring.key("leaked").revoked == NOW - 9 * DAY, "it stays revoked since then"


def test_of_several_keys_none_is_revoked_if_one_can_not_be(keys):
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
def test_a_replacement_that_crashes_leaves_a_key_signing_and_can_be_repeated(
    keys, monkeypatch, published
):
    class Crash(BaseException):
        pass

    if not published:
        retire(keys, "next", NOW, LIFETIME)
    replace_ = os.replace
    for written in range(10):  # files, before it crashes
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
    assert ring.signing.promoted == NOW


def test_a_revoked_key_stays_as_long_as_its_tokens_would(keys):
    """Gone, it would revoke nothing on a host whose folder still has it."""
    revoke(keys, "old", NOW)
    with pytest.raises(KeyringError, match=r"can be removed from 2026-03-08T13:00:30Z on"):
        retire(keys, "old", NOW + LIFETIME - TICK, LIFETIME)
    retire(keys, "old", NOW + LIFETIME, LIFETIME)
    assert "old.json" not in everything(keys)


def test_a_revoked_key_goes_early_by_force(keys):
    revoke(keys, "next", NOW)
    retire(keys, "next", NOW, LIFETIME, force=True)
    assert "next.json" not in everything(keys)


@pytest.mark.parametrize("kid", ["next", "leaked"])
def test_a_key_that_nothing_needs_may_go(keys, kid):
    retire(keys, kid, NOW, LIFETIME)
    assert f"{kid}.json" not in everything(keys)
    assert len(load_keyring(keys).keys) == 3


@pytest.mark.parametrize("force", [False, True])
def test_the_signing_key_stays(keys, force):
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


def test_a_demoted_key_goes_early_by_force(keys):
    retire(keys, "old", NOW, LIFETIME, force=True)
    assert "old.json" not in everything(keys)


def test_an_unknown_key_cannot_go(keys):
    with pytest.raises(KeyringError, match="there is no key 'other'"):
        retire(keys, "other", NOW, LIFETIME, force=True)


def test_a_single_file_is_left_alone(tmp_path):
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


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_on_the_way_leaves_the_old_keys(keys, monkeypatch, step):
    before = everything(keys)

    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    for change in (lambda: promote(keys, "next", NOW), lambda: add_key(keys, key_named("more"))):
        with pytest.raises(KeyringError, match="can't be written: No space left on device"):
            change()
        assert everything(keys) == before


def test_a_crash_on_the_way_leaves_the_old_keys(keys, monkeypatch):
    """Not even the clean-up runs: what is left over is hidden, and is read by nobody but its
    owner.
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


# ----- noticing


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


def test_broken_keys_change_nothing_and_are_told_until_mended(keys):
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


def test_a_change_while_reading_is_noticed_the_next_time(keys, monkeypatch):
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


# ----- seeking


@pytest.fixture
def looks(monkeypatch):
    """How often the files were looked at."""
    seen = []

    def noted(path):
        seen.append(path)
        return fingerprint(path)

    monkeypatch.setattr("session_authority.tokens.keyring.fingerprint", noted)
    return seen


def test_a_key_that_is_not_known_yet_is_found_at_once(keys):
    source = KeySource(keys)
    add_key(keys, key_named("more"))
    source.seek("more", NOW)
    assert "more" in source.current
    assert source.version == 1
    assert not source.refresh()


def test_a_key_that_is_known_is_not_sought(keys, looks):
    source = KeySource(keys)
    looks.clear()
    for key in source.current.keys:
        source.seek(key.kid, NOW)
    assert looks == []


def test_made_up_names_cost_a_bounded_number_of_looks(keys, looks):
    source = KeySource(keys)
    looks.clear()
    for number in range(1000):  # in one second
        source.seek(f"made-up-{number}", NOW + number * timedelta(milliseconds=1))
    assert len(looks) == 10
    add_key(keys, key_named("more"))
    source.seek("more", NOW + timedelta(milliseconds=999))
    assert "more" not in source.current
    source.seek("more", NOW + timedelta(milliseconds=1000))
    assert "more" in source.current


def test_a_clock_that_is_set_back_stops_no_search(keys):
    source = KeySource(keys)
    source.seek("more", NOW)
    add_key(keys, key_named("more"))
    source.seek("more", NOW - DAY)
    assert "more" in source.current


def test_made_up_names_have_broken_files_read_once(keys, monkeypatch):
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
    """A revocation must count though it leaves nothing to sign with."""
    keys = save(tmp_path / "keys", key_named("a", NOW), key_named("b"))
    source = KeySource(keys)
    save(keys, key_named("a", NOW, revoked=NOW))
    assert source.refresh()
    assert isinstance(source.current, Keyring)
    assert source.current.verifier("a", NOW, LIFETIME) is None
    assert source.current.verifier("b", NOW, LIFETIME) is not None
