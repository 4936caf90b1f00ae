"""The callers that a policy and tokens identify, and the effect of changes to the files."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from session_authority.access import (
    Access,
    AccessError,
    AccessSource,
    Caller,
    CallerToken,
    add_token,
    load_access,
    new_token,
    remove_tokens,
)
from session_authority.access.callers import digest_of

WritePolicy = Callable[..., Path]
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


ADA, BOB = Caller("ada", frozenset()), Caller("bob", frozenset())


@pytest.mark.parametrize(
    ("names", "caller"),
    [
        ([], None),
        (["unknown"], None),
        (["ada.internal"], ADA),
        (["unknown", "ada.internal"], ADA),
        (["ada.internal", "spiffe://example.org/ada"], ADA),
        (["ada.internal", "bob.internal"], None),
        (["bob.internal", "ada.internal"], None),
        (["ADA.internal"], None),
        (["ada.internal.", "ada.internal\0"], None),
    ],
)
def test_a_certificate_identifies_the_one_caller_that_its_known_names_agree_on(
    names: list[str], caller: Caller | None
):
    access = Access({"ada.internal": ADA, "spiffe://example.org/ada": ADA, "bob.internal": BOB})
    found = access.by_certificate(names)
    assert (found.pop() if len(found) == 1 else None) == caller


def test_a_given_token_is_compared_with_every_token_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
):
    texts = [new_token() for _ in range(5)]
    owners = [ADA, BOB, ADA, BOB, ADA]
    tokens = [
        (CallerToken(owner.name, NOW, digest_of(text)), owner)
        for text, owner in zip(texts, owners, strict=True)
    ]
    access = Access(tokens=tokens)
    compared: list[tuple[bytes, bytes]] = []
    sound = hmac.compare_digest

    def compare(kept: bytes, given: bytes) -> bool:
        compared.append((kept, given))
        return sound(kept, given)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    guesses = [
        "",
        "sacall_",
        new_token(),
        texts[0][:-1],
        texts[0] + "A",
        texts[0].swapcase(),
        "\ud800",
        "\xff" * 9000,
    ]
    for text, owner in [*zip(texts, owners, strict=True), *((guess, None) for guess in guesses)]:
        compared.clear()
        assert access.by_token(text) is owner
        assert compared == [(token.digest, digest_of(text)) for token, _ in tokens]


def test_without_tokens_and_certificates_no_caller_is_known():
    access = Access()
    assert (access.by_token(""), access.by_certificate(["ada"]), access.anyone) == (
        None,
        set(),
        None,
    )


POLICY = """
[callers.login]
roles = ["issuer"]
certificates = ["login.internal"]
[callers.gateway]
roles = ["validator"]
"""


def test_a_policy_and_tokens_identify_callers_together(policy: WritePolicy, tmp_path: Path):
    tokens = tmp_path / "tokens"
    text = new_token()
    add_token(tokens, "gateway", text, NOW)
    access = load_access(policy(POLICY), tokens)
    assert (known := access.by_token(text)) is not None
    assert known.name == "gateway"
    assert known.rpcs() == [
        "ValidateSession", "BatchValidateSessions", "CheckSessions", "GetSigningKeys",
    ]  # fmt: skip
    assert {caller.name for caller in access.by_certificate(["login.internal"])} == {"login"}
    assert load_access(policy(POLICY), None).by_token(text) is None


def test_the_faults_of_both_files_are_reported_together(policy: WritePolicy, tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.write_text("nonsense\n")
    path = policy("")
    with pytest.raises(AccessError) as caught:
        load_access(path, tokens)
    assert caught.value.faults == (
        f"{path}: callers: is empty: nobody could call; name each caller under [callers.NAME]",
        f"{tokens}: line 1: must have a caller, a token ID, a time and a SHA-256, all of one token",
    )


def test_tokens_of_callers_that_the_policy_does_not_name_are_faults(
    policy: WritePolicy, tmp_path: Path
):
    tokens = tmp_path / "tokens"
    for name in ("zoe", "gateway", "bob", "zoe"):
        add_token(tokens, name, new_token(), NOW)
    path = policy(POLICY)
    with pytest.raises(AccessError) as caught:
        load_access(path, tokens)
    assert caught.value.faults == tuple(
        f"{tokens}: {name}: is no caller of {path}" for name in ("bob", "zoe")
    )


def test_a_token_file_that_does_not_exist_is_an_error(policy: WritePolicy, tmp_path: Path):
    with pytest.raises(AccessError, match="tokens: can't be read: No such file"):
        load_access(policy(POLICY), tmp_path / "tokens")


@pytest.fixture
def source(policy: WritePolicy, tmp_path: Path) -> AccessSource:
    add_token(tmp_path / "tokens", "gateway", TOKEN, NOW)
    return AccessSource(policy(POLICY), tmp_path / "tokens")


TOKEN = new_token()


def names(source: AccessSource) -> tuple[str | None, str | None]:
    """The names of the callers that a certificate and a token identify."""
    certified, bearing = (
        source.current.by_certificate(["login.internal"]),
        source.current.by_token(TOKEN),
    )
    return next((caller.name for caller in certified), None), bearing.name if bearing else None


def refreshed(source: AccessSource) -> bool:
    """Refreshes twice if necessary. Returns True if a change has taken effect."""
    return source.refresh() or source.refresh()


def test_unchanged_files_are_not_read_again(source: AccessSource):
    before = source.current
    assert (source.refresh(), source.current is before, source.version) == (False, True, 0)


def test_a_change_takes_effect_once_it_was_seen_twice(source: AccessSource, policy: WritePolicy):
    """A file that is still being written looks complete if it ends between two tables."""
    policy(POLICY.partition("[callers.gateway]")[0])
    assert (source.refresh(), names(source)) == (False, ("login", "gateway"))
    policy(POLICY + "\n")
    assert (source.refresh(), source.refresh(), names(source)) == (
        False,
        True,
        ("login", "gateway"),
    )


def test_a_caller_removed_from_the_policy_is_unknown_even_if_its_tokens_remain(
    source: AccessSource, policy: WritePolicy
):
    head, _, rest = POLICY.partition("[callers.gateway]")
    policy(head + "[callers.doorway]" + rest)
    assert refreshed(source) is True
    assert names(source)[1] is None
    assert source.current.unknown == {"gateway"}
    policy(POLICY)
    assert (refreshed(source), names(source)[1], source.current.unknown) == (
        True,
        "gateway",
        frozenset(),
    )


def test_a_changed_policy_takes_effect(source: AccessSource, policy: WritePolicy):
    policy(POLICY.replace("login.internal", "other.internal"))
    assert (refreshed(source), source.version, names(source)) == (True, 1, (None, "gateway"))
    assert refreshed(source) is False


def test_changed_tokens_take_effect(source: AccessSource, tmp_path: Path):
    remove_tokens(tmp_path / "tokens", "gateway")
    assert (refreshed(source), source.version, names(source)) == (True, 1, ("login", None))


def test_another_file_with_the_same_size_and_time_is_seen_as_a_change(
    source: AccessSource, tmp_path: Path
):
    path = tmp_path / "access.toml"
    stat = path.stat()
    new = tmp_path / "new.toml"
    new.write_text(POLICY.replace("login.internal", "logim.internal"))
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert refreshed(source)
    assert names(source) == (None, "gateway")


@pytest.mark.parametrize("broken", ["access.toml", "tokens"])
@pytest.mark.parametrize("how", ["nonsense", "gone"])
def test_a_broken_file_changes_nothing_until_it_is_repaired(
    source: AccessSource, tmp_path: Path, broken: str, how: str
):
    path = tmp_path / broken
    sound = path.read_text()
    if how == "gone":
        path.unlink()
    else:
        path.write_text(how)
    for _ in range(3):  # the fault is reported as long as it lasts
        with pytest.raises(AccessError, match=broken):
            refreshed(source)
        assert (source.version, names(source)) == (0, ("login", "gateway"))
    path.write_text(sound)
    assert (refreshed(source), source.version, names(source)) == (True, 1, ("login", "gateway"))


def test_broken_files_at_the_start_are_an_error(policy: WritePolicy, tmp_path: Path):
    with pytest.raises(AccessError, match="is empty"):
        AccessSource(policy(""), None)
    with pytest.raises(AccessError, match="can't be read"):
        AccessSource(tmp_path / "none", None)
