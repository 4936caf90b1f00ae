"""The access policy: what a file may say, every fault of it named at once, and nothing allowed that
it does not name.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from session_authority.access import (
    ROWS,
    Access,
    AccessError,
    AccessSource,
    Caller,
    CallerToken,
    Role,
    add_token,
    everybody,
    load_access,
    new_token,
    read_policy,
    remove_tokens,
    rows_missing,
)
from session_authority.access.callers import NAME_RULE, digest_of
from session_authority.v1 import session_authority_pb2 as pb

WritePolicy = Callable[..., Path]
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SERVICES: list[Any] = [
    pb.DESCRIPTOR.services_by_name["SessionAuthorityService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
ALL_PATHS = {
    f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods
}
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
# The table, written out once more: what callers of each role may call, as the file would name it.
MAY_CALL = {
    "issuer": {"IssueDevice", "RenewSession", "GetSigningKeys"},
    "validator": {"ValidateSession", "BatchValidateSessions", "GetSigningKeys"},
    "manager": {"ListDevices", "UpdateDevice", "RevokeDevice", "RevokeAll"},
    "watcher": {"WatchEvents"},
    "operator": {
        "IssueDevice",
        "RenewSession",
        "ValidateSession",
        "BatchValidateSessions",
        "GetSigningKeys",
        "ListDevices",
        "UpdateDevice",
        "RevokeDevice",
        "RevokeAll",
        "WatchEvents",
        REFLECTION,
    },
}
PUBLIC = {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}


def path_of(name: str) -> str:
    return f"/{name}" if "/" in name else f"/session_authority.v1.SessionAuthorityService/{name}"


def faults_of(path: Path) -> list[str]:
    """What a policy file gets wrong, without the file's name, which each fault starts with."""
    with pytest.raises(AccessError) as caught:
        read_policy(path)
    start = f"{path}: "
    assert all(fault.startswith(start) for fault in caught.value.faults)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return [fault.removeprefix(start) for fault in caught.value.faults]


# --- the table ------------------------------------------------------------------------------------


def test_every_rpc_that_there_is_has_a_row_and_no_other():
    assert set(ROWS) == ALL_PATHS
    assert rows_missing(ALL_PATHS) == []


def test_rpcs_without_a_row_are_named_in_order():
    assert rows_missing(["/b/New", *ALL_PATHS, "/a/New"]) == ["/a/New", "/b/New"]


@pytest.mark.parametrize("path", sorted(ALL_PATHS))
@pytest.mark.parametrize("role", sorted(MAY_CALL))
def test_a_role_may_call_what_is_written_and_nothing_else(
    policy: WritePolicy, role: str, path: str
):
    caller = read_policy(policy(f'[callers.ada]\nroles = ["{role}"]')).callers["ada"]
    assert (path in caller.paths) is (path in {path_of(name) for name in MAY_CALL[role]})


def test_only_health_is_for_anyone():
    assert {path for path, row in ROWS.items() if row.public} == PUBLIC
    assert not [path for path, row in ROWS.items() if row.public and row.roles]


def test_there_are_these_roles():
    assert {role.value for role in Role} == set(MAY_CALL)


@pytest.mark.parametrize("role", sorted(MAY_CALL))
def test_only_an_operator_may_look_without_a_trace(policy: WritePolicy, role: str):
    caller = read_policy(policy(f'[callers.ada]\nroles = ["{role}"]')).callers["ada"]
    assert caller.may_observe is (role == "operator")


@pytest.mark.parametrize("name", sorted(MAY_CALL["operator"]))
def test_a_single_rpc_gives_that_and_nothing_else(policy: WritePolicy, name: str):
    caller = read_policy(policy(f'[callers.ada]\nrpcs = ["{name}"]')).callers["ada"]
    assert caller == Caller("ada", frozenset({path_of(name)}), may_observe=False)
    assert caller.rpcs() == [name]


def test_roles_and_rpcs_add_up(policy: WritePolicy):
    caller = read_policy(
        policy('[callers.ada]\nroles = ["watcher", "issuer"]\nrpcs = ["RevokeAll"]')
    ).callers["ada"]
    assert set(caller.rpcs()) == MAY_CALL["watcher"] | MAY_CALL["issuer"] | {"RevokeAll"}


def test_everybody_may_do_everything_in_development():
    anyone = everybody().anyone
    assert anyone is not None
    assert anyone == Caller("anonymous", frozenset(ALL_PATHS - PUBLIC), may_observe=True)


# --- the file -------------------------------------------------------------------------------------


def test_a_good_file(policy: WritePolicy):
    found = read_policy(
        policy("""
            [callers.login]
            roles = ["issuer"]
            certificates = ["spiffe://example.org/login", "login.internal"]
            [callers."a.b_c-9"]
            rpcs = ["ListDevices"]
            """)
    )
    assert list(found.callers) == ["login", "a.b_c-9"]
    assert {name: caller.name for name, caller in found.certificates.items()} == {
        "spiffe://example.org/login": "login",
        "login.internal": "login",
    }


ROLES = "issuer, validator, manager, watcher, operator"
RPCS = (
    "IssueDevice, RenewSession, ValidateSession, BatchValidateSessions, GetSigningKeys,"
    f" ListDevices, UpdateDevice, RevokeDevice, RevokeAll, WatchEvents, {REFLECTION}"
)
LIST = "must be a list of texts"
NOTHING = "may call nothing: give it roles or rpcs"
EMPTY = "callers: is empty: nobody could call; name each caller under [callers.NAME]"


def certificate_rule(text: str) -> str:
    return f"{text!r} is neither a URI like spiffe://example.org/login nor a lower-case host name; no wildcards"  # fmt: skip


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", [EMPTY]),
        ("[callers]", [EMPTY]),
        ("callers = []", ["callers: must be tables, each under [callers.NAME]"]),
        ('callers = "ada"', ["callers: must be tables, each under [callers.NAME]"]),
        ("callers.ada = 1", ["callers.ada: must be a table"]),
        ("[[callers.ada]]", ["callers.ada: must be a table"]),
        ("[callers.ada]", [f"callers.ada: {NOTHING}"]),
        ("[callers.ada]\nroles = []\nrpcs = []", [f"callers.ada: {NOTHING}"]),
        ('[callers.ada]\nroles = "issuer"', [f"callers.ada.roles: {LIST}"]),
        ("[callers.ada]\nroles = [1]", [f"callers.ada.roles: {LIST}"]),
        ('[callers.ada]\nroles = ["issuer", ["validator"]]', [f"callers.ada.roles: {LIST}"]),
        ("[callers.ada]\nrpcs = true", [f"callers.ada.rpcs: {LIST}"]),
        (
            '[callers.ada]\nroles = ["issuer"]\ncertificates = "x"',
            [f"callers.ada.certificates: {LIST}"],
        ),
        (
            '[callers.ada]\nroles = ["admin"]',
            [f"callers.ada.roles: 'admin' is no role; there are {ROLES}"],
        ),
        (
            '[callers.ada]\nroles = ["Issuer"]',
            [f"callers.ada.roles: 'Issuer' is no role; there are {ROLES}"],
        ),
        ('[callers.ada]\nrpcs = ["*"]', [f"callers.ada.rpcs: '*' is no RPC; there are {RPCS}"]),
        (
            '[callers.ada]\nrpcs = ["issueDevice"]',
            [f"callers.ada.rpcs: 'issueDevice' is no RPC; there are {RPCS}"],
        ),
        (
            '[callers.ada]\nrpcs = ["grpc.health.v1.Health/Check"]',
            [f"callers.ada.rpcs: 'grpc.health.v1.Health/Check' is no RPC; there are {RPCS}"],
        ),
        (
            '[callers.ada]\nrole = ["issuer"]\nroles = ["issuer"]',
            ["callers.ada.role: is not known; there are roles, rpcs, certificates"],
        ),
        (
            'default = "allow"\n[callers.ada]\nroles = ["issuer"]',
            ["default: is not known; there is [callers.NAME] only"],
        ),
        (
            '[callers.ada]\nroles = ["issuer"]\n[caller.bob]\nroles = ["issuer"]',
            ["caller: is not known; there is [callers.NAME] only"],
        ),
    ],
)
def test_a_fault_is_named_with_its_place_and_rule(
    policy: WritePolicy, text: str, faults: list[str]
):
    assert faults_of(policy(text)) == faults


@pytest.mark.parametrize(
    "name",
    ["", "Ada", "-ada", ".ada", "a b", "a/b", "ada\n", "a" * 65, "ädä", "a\u0131", "٣", "a\0", "*"],
)
def test_a_name_that_no_caller_may_have(policy: WritePolicy, name: str):
    quoted = "".join(f"\\u{ord(character):04x}" for character in name)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert faults_of(policy(f'[callers."{quoted}"]\nroles = ["issuer"]')) == [
        f"callers.{shown}: {NAME_RULE}"
    ]


@pytest.mark.parametrize("name", ["a", "9", "a" * 64, "a.b_c-d", "0-"])
def test_a_name_that_a_caller_may_have(policy: WritePolicy, name: str):
    assert list(read_policy(policy(f'[callers."{name}"]\nroles = ["issuer"]')).callers) == [name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.example.org",
        "login.*",
        "Login.example.org",
        "login.example.org.",
        ".example.org",
        "a..b",
        "a b",
        "-a.example.org",
        "a-.example.org",
        f"{'a' * 64}.example.org",
        f"{'a.' * 127}aa",
        "spiffe://",
        "spiffe:/example.org",
        "SPIFFE://example.org/login",
        "spiffe://example.org/lo gin",
        "spiffe://example.org/ä",
        "://example.org",
        "CN=login",
        "login@example.org",
        "login.example.org\n",
    ],
)
def test_a_certificate_name_that_could_not_be_matched(policy: WritePolicy, text: str):
    quoted = "".join(f"\\u{ord(character):04x}" for character in text)
    path = policy(f'[callers.ada]\nroles = ["issuer"]\ncertificates = ["{quoted}"]')
    assert faults_of(path) == [f"callers.ada.certificates: {certificate_rule(text)}"]


@pytest.mark.parametrize(
    "text",
    [
        "login",
        "login.example.org",
        "_spiffe.a_b.example.org",
        "xn--bcher-kva.example",
        f"{'a' * 63}.example.org",
        f"{'a.' * 126}a",
        "10.0.0.1",
        "spiffe://example.org/ns/prod/sa/login",
        "https://login.example.org/",
        "urn+x.y-z://a",
    ],
)
def test_a_certificate_name_that_can_be_matched(policy: WritePolicy, text: str):
    path = policy(f'[callers.ada]\nroles = ["issuer"]\ncertificates = ["{text}"]')
    assert list(read_policy(path).certificates) == [text]


@pytest.mark.parametrize("second", ["ada", "bob"])
def test_a_certificate_name_stands_for_one_caller_once(policy: WritePolicy, second: str):
    own = ', "ada.internal"' if second == "ada" else ""
    text = f'[callers.ada]\nroles = ["issuer"]\ncertificates = ["ada.internal"{own}]\n'
    if second == "bob":
        text += '[callers.bob]\nroles = ["validator"]\ncertificates = ["ada.internal"]\n'
    assert faults_of(policy(text)) == [
        (
            f"callers.{second}.certificates: 'ada.internal' is named twice: it must stand for one"
            " caller"
        )
    ]


def test_all_faults_are_named_at_once(policy: WritePolicy):
    faults = faults_of(
        policy("""
            default = "allow"
            [callers.Login]
            roles = ["issuer"]
            [callers.gateway]
            roles = ["validator", "admin", "root"]
            rpcs = ["Validate"]
            owner = "sami"
            certificates = ["*.internal", "gateway.internal"]
            [callers.account]
            certificates = ["gateway.internal"]
            """)
    )
    assert faults == [
        "default: is not known; there is [callers.NAME] only",
        f"callers.Login: {NAME_RULE}",
        "callers.gateway.owner: is not known; there are roles, rpcs, certificates",
        f"callers.gateway.roles: 'admin' is no role; there are {ROLES}",
        f"callers.gateway.roles: 'root' is no role; there are {ROLES}",
        f"callers.gateway.rpcs: 'Validate' is no RPC; there are {RPCS}",
        f"callers.gateway.certificates: {certificate_rule('*.internal')}",
        f"callers.account: {NOTHING}",
        (
            "callers.account.certificates: 'gateway.internal' is named twice: it must stand for one"
            " caller"
        ),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "callers",
        "[callers.ada",
        "[callers.ada]\nroles = [issuer]",
        '[callers.ada]\nroles = ["issuer"]\n[callers.ada]\nroles = ["operator"]',
        '[callers.ada]\nroles = ["issuer"]\nroles = ["operator"]',
        "[callers.ada]\nroles = [" + "[" * 5000,
        "[callers.ada]\nroles = " + "9" * 5000,
        "{}",
        "\0",
    ],
    ids=["word", "cut", "bare", "twice", "field twice", "deep", "long number", "json", "NUL"],
)
def test_what_is_not_toml(policy: WritePolicy, text: str):
    [fault] = faults_of(policy(text))
    assert fault.startswith("is not TOML: ")


def test_what_is_not_utf8(policy: WritePolicy):
    assert faults_of(policy(b'[callers.ada]\nroles = ["issuer"] # \xff')) == ["is not UTF-8"]


def test_what_cannot_be_read(tmp_path: Path):
    assert faults_of(tmp_path / "none.toml") == ["can't be read: No such file or directory"]
    assert faults_of(tmp_path) == ["can't be read: Is a directory"]


# --- who it is ------------------------------------------------------------------------------------

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
def test_a_certificate_stands_for_the_one_caller_that_its_names_agree_on(
    names: list[str], caller: Caller | None
):
    access = Access({"ada.internal": ADA, "spiffe://example.org/ada": ADA, "bob.internal": BOB})
    found = access.by_certificate(names)
    assert (found.pop() if len(found) == 1 else None) == caller


def test_every_token_is_compared_in_constant_time_whichever_it_is(monkeypatch: pytest.MonkeyPatch):
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


def test_without_tokens_and_certificates_nobody_is_known():
    access = Access()
    assert (access.by_token(""), access.by_certificate(["ada"]), access.anyone) == (
        None,
        set(),
        None,
    )


# --- both files -----------------------------------------------------------------------------------

POLICY = """
[callers.login]
roles = ["issuer"]
certificates = ["login.internal"]
[callers.gateway]
roles = ["validator"]
"""


def test_a_policy_and_tokens_together(policy: WritePolicy, tmp_path: Path):
    tokens = tmp_path / "tokens"
    text = new_token()
    add_token(tokens, "gateway", text, NOW)
    access = load_access(policy(POLICY), tokens)
    assert (known := access.by_token(text)) is not None
    assert known.name == "gateway"
    assert known.rpcs() == ["ValidateSession", "BatchValidateSessions", "GetSigningKeys"]
    assert {caller.name for caller in access.by_certificate(["login.internal"])} == {"login"}
    assert load_access(policy(POLICY), None).by_token(text) is None


def test_the_faults_of_both_files_are_named_at_once(policy: WritePolicy, tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.write_text("nonsense\n")
    path = policy("")
    with pytest.raises(AccessError) as caught:
        load_access(path, tokens)
    assert caught.value.faults == (
        f"{path}: {EMPTY}",
        f"{tokens}: line 1: must have a caller, a token ID, a time and a SHA-256, all of one token",
    )


def test_tokens_of_callers_that_the_policy_does_not_name(policy: WritePolicy, tmp_path: Path):
    tokens = tmp_path / "tokens"
    for name in ("zoe", "gateway", "bob", "zoe"):
        add_token(tokens, name, new_token(), NOW)
    path = policy(POLICY)
    with pytest.raises(AccessError) as caught:
        load_access(path, tokens)
    assert caught.value.faults == tuple(
        f"{tokens}: {name}: is no caller of {path}" for name in ("bob", "zoe")
    )


def test_tokens_that_are_named_must_be_there(policy: WritePolicy, tmp_path: Path):
    with pytest.raises(AccessError, match="tokens: can't be read: No such file"):
        load_access(policy(POLICY), tmp_path / "tokens")


# --- files that change ----------------------------------------------------------------------------


@pytest.fixture
def source(policy: WritePolicy, tmp_path: Path) -> AccessSource:
    add_token(tmp_path / "tokens", "gateway", TOKEN, NOW)
    return AccessSource(policy(POLICY), tmp_path / "tokens")


TOKEN = new_token()


def names(source: AccessSource) -> tuple[str | None, str | None]:
    """Whom a certificate and a token stand for."""
    certified, bearing = (
        source.current.by_certificate(["login.internal"]),
        source.current.by_token(TOKEN),
    )
    return next((caller.name for caller in certified), None), bearing.name if bearing else None


def refreshed(source: AccessSource) -> bool:
    """Whether something new is in force once it was seen twice."""
    return source.refresh() or source.refresh()


def test_what_does_not_change_is_not_read_again(source: AccessSource):
    before = source.current
    assert (source.refresh(), source.current is before, source.version) == (False, True, 0)


def test_a_change_is_taken_once_it_was_seen_twice(source: AccessSource, policy: WritePolicy):
    """A file that is cut off between two tables looks like a whole one."""
    policy(POLICY.partition("[callers.gateway]")[0])
    assert (source.refresh(), names(source)) == (False, ("login", "gateway"))
    policy(POLICY + "\n")
    assert (source.refresh(), source.refresh(), names(source)) == (
        False,
        True,
        ("login", "gateway"),
    )


def test_who_is_taken_out_is_out_whatever_tokens_are_left(
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


def test_a_changed_policy_is_in_force(source: AccessSource, policy: WritePolicy):
    policy(POLICY.replace("login.internal", "other.internal"))
    assert (refreshed(source), source.version, names(source)) == (True, 1, (None, "gateway"))
    assert refreshed(source) is False


def test_changed_tokens_are_in_force(source: AccessSource, tmp_path: Path):
    remove_tokens(tmp_path / "tokens", "gateway")
    assert (refreshed(source), source.version, names(source)) == (True, 1, ("login", None))


def test_a_change_that_keeps_size_and_time_is_seen_if_the_file_is_another(
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
def test_a_broken_file_changes_nothing_until_it_is_mended(
    source: AccessSource, tmp_path: Path, broken: str, how: str
):
    path = tmp_path / broken
    sound = path.read_text()
    if how == "gone":
        path.unlink()
    else:
        path.write_text(how)
    for _ in range(3):  # it is said as long as it is so
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
