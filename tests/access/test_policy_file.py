"""The policy file: what it may contain, and that all its faults are reported together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from session_authority.access import (
    AccessError,
    read_policy,
)
from session_authority.access.callers import NAME_RULE

WritePolicy = Callable[..., Path]


def faults_of(path: Path) -> list[str]:
    """The faults of a policy file, without the file's name at the start of each."""
    with pytest.raises(AccessError) as caught:
        read_policy(path)
    start = f"{path}: "
    assert all(fault.startswith(start) for fault in caught.value.faults)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return [fault.removeprefix(start) for fault in caught.value.faults]


def test_a_valid_file_is_read(policy: WritePolicy):
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


ROLES = "issuer, validator, manager, watcher, gateway, operator"
RPCS = (
    "IssueDevice, RenewSession, UpdateSession, ValidateSession, BatchValidateSessions,"
    " CheckSessions,"
    " GetSigningKeys, ListDevices, UpdateDevice, RevokeDevice, RevokeAll, WatchEvents,"
    " grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
)
LIST = "must be a list of texts"
NOTHING = "may call nothing: give it roles or rpcs"
EMPTY = "callers: is empty: nobody could call; name each caller under [callers.NAME]"


def certificate_rule(text: str) -> str:
    return (
        f"{text!r} is neither a URI like spiffe://example.org/login nor a lower-case host name;"
        " no wildcards"
    )


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
def test_a_fault_is_reported_with_its_place_and_rule(
    policy: WritePolicy, text: str, faults: list[str]
):
    assert faults_of(policy(text)) == faults


@pytest.mark.parametrize(
    "name",
    ["", "Ada", "-ada", ".ada", "a b", "a/b", "ada\n", "a" * 65, "ädä", "a\u0131", "٣", "a\0", "*"],
)
def test_a_name_that_no_caller_may_have_is_a_fault(policy: WritePolicy, name: str):
    quoted = "".join(f"\\u{ord(character):04x}" for character in name)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert faults_of(policy(f'[callers."{quoted}"]\nroles = ["issuer"]')) == [
        f"callers.{shown}: {NAME_RULE}"
    ]


@pytest.mark.parametrize("name", ["a", "9", "a" * 64, "a.b_c-d", "0-"])
def test_a_name_that_a_caller_may_have_is_accepted(policy: WritePolicy, name: str):
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
def test_a_certificate_name_that_could_never_match_is_a_fault(policy: WritePolicy, text: str):
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
def test_a_certificate_name_that_can_match_is_accepted(policy: WritePolicy, text: str):
    path = policy(f'[callers.ada]\nroles = ["issuer"]\ncertificates = ["{text}"]')
    assert list(read_policy(path).certificates) == [text]


@pytest.mark.parametrize("second", ["ada", "bob"])
def test_a_certificate_name_may_be_named_only_once(policy: WritePolicy, second: str):
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


def test_all_faults_are_reported_together(policy: WritePolicy):
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
def test_a_file_that_is_not_toml_is_a_fault(policy: WritePolicy, text: str):
    [fault] = faults_of(policy(text))
    assert fault.startswith("is not TOML: ")


def test_a_file_that_is_not_utf8_is_a_fault(policy: WritePolicy):
    assert faults_of(policy(b'[callers.ada]\nroles = ["issuer"] # \xff')) == ["is not UTF-8"]


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path):
    assert faults_of(tmp_path / "none.toml") == ["can't be read: No such file or directory"]
    assert faults_of(tmp_path) == ["can't be read: Is a directory"]
