"""The commands that make, list and remove callers' tokens, and the credentials of the commands that
call a server.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from session_authority.access import read_tokens
from session_authority.access.callers import digest_of
from tests.cli.harness import call, fault
from tests.support.ca import CA, Pair
from tests.support.commands import COMMAND, PATIENCE, DevServer, dev_server, environment, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

POLICY = """
[callers.login]
roles = ["issuer"]
certificates = ["login.internal"]

[callers.ops]
roles = ["operator"]
certificates = ["spiffe://example.org/ops", "ops.internal"]
"""
NOBODY = "the call brings no certificate and no bearer token of a known caller"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "access.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


# --- callers --------------------------------------------------------------------------------------


def test_only_the_command_that_makes_a_token_prints_it(tokens: Path, policy: Path):
    result = call("callers", "add", "login", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    assert result.exit_code == 0
    assert re.fullmatch(r"sacall_[A-Za-z0-9_-]{43}\n", result.stdout)
    token = result.stdout.strip()
    [kept] = read_tokens(tokens)
    assert (kept.caller, kept.digest) == ("login", digest_of(token))
    told = f"login has the token {kept.token_id} from now on. It is not shown again.\n"
    assert result.stderr == told
    later = [
        call("callers", what, *name, CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
        for what, *name in LATER
    ]
    assert all(result.exit_code == 0 for result in later)
    assert token not in "".join(result.output for result in later)


LATER = [("list",), ("add", "login"), ("remove", "login")]


def test_callers_are_listed_with_their_methods_and_credentials(tokens: Path, policy: Path):
    for _ in range(2):
        call("callers", "add", "login", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    result = call("callers", "list", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    assert result.exit_code == 0
    words = result.stdout.split()
    for word in (
        "login",
        "IssueDevice",
        "login.internal",
        "ops",
        "WatchEvents",
        "spiffe://example.org/ops",
    ):
        assert word in words
    for kept in read_tokens(tokens):
        assert words.count(kept.token_id) == 1
        assert kept.digest.hex() not in result.stdout


def test_a_row_of_a_caller_is_whole_however_narrow_the_terminal(
    tokens: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    call("callers", "add", "ops", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    result = call("callers", "list", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    [row] = [line for line in result.stdout.splitlines() if line.startswith("ops")]
    assert "spiffe://example.org/ops" in row
    assert row.rstrip().endswith("Z")


def test_the_policy_alone_and_the_tokens_alone_can_be_listed(
    tmp_path: Path, tokens: Path, policy: Path
):
    assert "login.internal" in call("callers", "list", ACCESS_POLICY=policy).stdout
    without = call("callers", "list", "--tokens", tmp_path / "none", ACCESS_POLICY=policy)
    assert "login.internal" in without.stdout
    call("callers", "add", "login", "--tokens", tokens)
    alone = call("callers", "list", "--tokens", tokens)
    assert "nothing: the policy does not name it" in alone.stdout


def test_callers_are_listed_as_json(tokens: Path, policy: Path):
    call("callers", "add", "login", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    result = call("callers", "list", "--json", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    rows = {row["caller"]: row for row in map(json.loads, result.stdout.splitlines())}
    [kept] = read_tokens(tokens)
    assert "IssueDevice" in rows["login"]["may_call"]
    assert rows["login"]["certificates"] == ["login.internal"]
    assert rows["login"]["tokens"] == [
        {"token_id": kept.token_id, "added_at": f"{kept.added_at:%Y-%m-%dT%H:%M:%SZ}"}
    ]
    assert rows["ops"]["tokens"] == []


def test_a_missing_token_file_is_an_error_unless_there_is_a_policy_to_list(
    tmp_path: Path, policy: Path
):
    nowhere = tmp_path / "sacall_secret"
    assert fault(call("callers", "list", "--tokens", nowhere)) == (
        2,
        "--tokens: there is no such file",
    )
    listed = call("callers", "list", "--tokens", nowhere, ACCESS_POLICY=policy)
    assert listed.exit_code == 0


def test_tokens_are_removed_one_by_one_or_all_at_once(tokens: Path):
    for name in ("login", "login", "login", "ops"):
        call("callers", "add", name, "--tokens", tokens)
    first, second, third, other = [token.token_id for token in read_tokens(tokens)]
    result = call("callers", "remove", "login", "--token", second, "--tokens", tokens)
    assert (result.exit_code, result.stdout) == (0, f"login has the token {second} no longer.\n")
    result = call("callers", "remove", "login", "--tokens", tokens)
    gone = "".join(f"login has the token {token} no longer.\n" for token in (first, third))
    assert (result.exit_code, result.stdout) == (0, gone)
    assert [token.token_id for token in read_tokens(tokens)] == [other]
    assert fault(call("callers", "remove", "login", "--tokens", tokens)) == (
        1,
        f"{tokens}: the caller 'login' has no token",
    )
    assert fault(call("callers", "remove", "ops", "--token", first, "--tokens", tokens)) == (
        1,
        f"{tokens}: the caller 'ops' has no token with this ID",
    )


def test_a_caller_that_the_policy_does_not_name_gets_no_token(tokens: Path, policy: Path):
    code, text = fault(
        call("callers", "add", "gateway", CALLER_TOKENS=tokens, ACCESS_POLICY=policy)
    )
    assert (code, text) == (1, f"'gateway' is no caller of {policy}: name it there first")
    assert not tokens.exists()


def test_errors_of_files_and_names_are_one_line(tmp_path: Path, tokens: Path, policy: Path):
    code, text = fault(call("callers", "add", "Log in", "--tokens", tokens))
    assert (code, text.startswith("the caller's name must be ")) == (1, True)
    tokens.write_text("nonsense\n")
    for arguments in (("add", "login"), ("list",), ("remove", "login")):
        code, text = fault(call("callers", *arguments, "--tokens", tokens))
        assert (code, text.startswith(f"{tokens}: line 1: ")) == (1, True)
    policy.write_text("callers")
    for arguments in (("add", "login"), ("list",)):
        code, text = fault(
            call("callers", *arguments, "--tokens", tmp_path / "none", ACCESS_POLICY=policy)
        )
        assert (code, text.startswith(f"{policy}: is not TOML: ")) == (1, True)
    missing = tmp_path / "none" / "tokens"
    assert fault(call("callers", "add", "login", "--tokens", missing)) == (
        1,
        f"{missing}: can't be written: No such file or directory",
    )


def test_a_command_without_a_file_says_how_to_name_it():
    for arguments in (("add", "login"), ("remove", "login")):
        code, text = fault(call("callers", *arguments))
        assert (code, text) == (
            2,
            "name the file of tokens with --tokens or SESSION_AUTHORITY_CALLER_TOKENS",
        )
    code, text = fault(call("callers", "list"))
    assert code == 2
    settings = "SESSION_AUTHORITY_ACCESS_POLICY or SESSION_AUTHORITY_CALLER_TOKENS"
    assert text == f"set {settings}, or give --tokens"


# --- credentials for a server ---------------------------------------------------------------------

ASKING: dict[str, tuple[str, ...]] = {
    "health": ("health",),
    "demo": ("demo",),
    "tail": ("events", "tail", "--since", "1h", "--count", "1", "--json"),
    "devices": ("devices", "list", "ada"),
    "session": ("sessions", "show"),
}


@pytest.fixture
def authority(tmp_path: Path) -> CA:
    return CA(tmp_path / "authority")


@pytest.fixture
def pair(authority: CA) -> Pair:
    return authority.sign(hosts=["ops.internal"])


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("sacall_secret\n")
    return path


@pytest.mark.parametrize("command", ASKING)
def test_a_certificate_and_its_key_must_be_given_together(pair: Pair, command: str):
    for option, path in (("--tls-cert", pair.certificate), ("--tls-key", pair.key)):
        assert fault(call(*ASKING[command], option, path)) == (
            2,
            "--tls-cert and --tls-key: give both or neither",
        )


# A user may pass a secret where the name of its file belongs.
SECRET = "s3cr3t-" * 50
TAKES_A_FILE = [
    *[
        (*asking, option)
        for asking in ASKING.values()
        for option in ("--token-file", "--tls-ca", "--tls-cert", "--tls-key")
    ],
    ("sessions", "show", "--access-token"),
    ("relay", "status", "--endpoints"),
    ("callers", "remove", "web", "--tokens"),
]


@pytest.mark.parametrize("command", TAKES_A_FILE, ids=" ".join)
@pytest.mark.parametrize("secret", [SECRET, "short", "two\nlines", "a/b"])
def test_a_secret_instead_of_a_file_name_is_not_printed(command: tuple[str, ...], secret: str):
    assert fault(call(*command, secret)) == (2, f"{command[-1]}: there is no such file")


def test_a_token_instead_of_its_id_is_not_printed(tmp_path: Path):
    tokens = tmp_path / "tokens"
    assert call("callers", "add", "web", "--tokens", tokens).exit_code == 0
    code, said = fault(call("callers", "remove", "web", "--tokens", tokens, "--token", SECRET))
    assert (code, said) == (1, f"{tokens}: the caller 'web' has no token with this ID")


@pytest.mark.parametrize(
    "arguments",
    [
        (SECRET,),
        ("callers", SECRET),
        (f"--{SECRET}",),
        ("keys", "promote", "-----BEGIN PRIVATE KEY-----\ns3cr3t"),
    ],
)
def test_a_secret_instead_of_a_command_is_not_printed(arguments: tuple[str, ...]):
    result = call(*arguments)
    assert (result.exit_code, "s3cr3t" in result.output) == (2, False)
    assert "No such" in result.output


def test_a_misspelled_command_is_printed():
    assert "No such command 'serv'" in call("serv").output


def test_a_secret_as_an_extra_argument_is_not_printed(token_file: Path):
    result = call("health", "--token-file", token_file, SECRET)
    assert (result.exit_code, "s3cr3t" in result.output) == (2, False)
    assert "unexpected extra argument" in result.output


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"sacall_secret x", b"sacall_secret\nx: y", b"sacall_s\xe4", b"\0"]
)
def test_a_file_without_a_token_is_named_and_its_content_not_printed(
    token_file: Path, content: bytes
):
    token_file.write_bytes(content)
    code, text = fault(call("health", "--token-file", token_file))
    assert (code, text) == (2, f"--token-file: {token_file}: must hold a token and nothing else")


@pytest.mark.parametrize("command", ASKING)
def test_a_token_is_not_sent_to_another_machine_in_plaintext(token_file: Path, command: str):
    for address in ("203.0.113.5:50051", "sessions.example.org:50051", "0.0.0.0:50051"):
        code, text = fault(call(*ASKING[command], "--address", address, "--token-file", token_file))
        assert (code, text) == (
            2,
            "--token-file: a token goes to another machine over TLS only; give --tls or --tls-ca",
        )


def test_health_over_tls_does_not_call_the_plaintext_health_address(authority: CA):
    main, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    settings = {"LISTEN": main, "HEALTH_LISTEN": health}
    assert fault(call("health", "--timeout", "0.1", **settings))[1].startswith(f"{health}: ")
    asked = call("health", "--timeout", "0.1", "--tls-ca", authority.file, **settings)
    assert fault(asked)[1].startswith(f"{main}: ")


# --- a server with TLS, a policy and tokens -------------------------------------------------------


class Harness:
    """A dev server with TLS and a policy, and the credentials of its callers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = CA(folder / "authority")
        self.server_pair = self.authority.sign(addresses=["127.0.0.1"])
        self.ops = self.authority.sign(uris=["spiffe://example.org/ops"])
        self.login = self.authority.sign(hosts=["login.internal"])
        self.policy = folder / "access.toml"
        self.tokens = folder / "tokens"
        self.token = folder / "ops.token"
        self.policy.write_text(POLICY)
        self.token.write_text(call("callers", "add", "ops", "--tokens", self.tokens).stdout)
        self.bearer = f"127.0.0.1:{free_port()}"
        self.health = f"127.0.0.1:{free_port()}"
        self.server: DevServer

    def settings(self) -> dict[str, str]:
        """Returns the server's settings."""
        return {
            "TLS_CERTIFICATE": str(self.server_pair.certificate),
            "TLS_KEY": str(self.server_pair.key),
            "TLS_CLIENT_CA": str(self.authority.file),
            "ACCESS_POLICY": str(self.policy),
            "CALLER_TOKENS": str(self.tokens),
            "BEARER_LISTEN": self.bearer,
            "HEALTH_LISTEN": self.health,
            "GRACE": "0s",
            "DURABLE_AFTER": "0s",
            "ALARM_AFTER": "1s",
        }

    def ask(self, command: str, *options: object) -> subprocess.CompletedProcess[str]:
        """Runs a command in a separate process, because some commands end their process."""
        return run(self.folder, *ASKING[command], *map(str, options))

    def shows(self) -> dict[str, tuple[object, ...]]:
        """Returns the options for each way to authenticate."""
        trust = ("--tls-ca", self.authority.file)
        pair = ("--tls-cert", self.ops.certificate, "--tls-key", self.ops.key)
        return {
            "certificate": ("--address", self.server.address, *trust, *pair),
            "token": ("--address", self.bearer, *trust, "--token-file", self.token),
        }


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("harness"))
    with dev_server(harness.folder / "data", **harness.settings()) as harness.server:
        yield harness
        assert harness.server.terminate() == 0


@pytest.mark.parametrize("how", ["certificate", "token"])
def test_health_is_answered_over_tls(harness: Harness, how: str):
    result = harness.ask("health", *harness.shows()[how])
    assert (result.returncode, result.stdout, result.stderr) == (0, "SERVING\n", "")


def test_the_health_address_answers_only_health_in_plaintext(harness: Harness):
    result = harness.ask("health", "--address", harness.health)
    assert (result.returncode, result.stdout) == (0, "SERVING\n")
    result = harness.ask("demo", "--address", harness.health)
    assert (result.returncode, "UNIMPLEMENTED" in result.stderr) == (1, True)


@pytest.mark.parametrize("how", ["certificate", "token"])
def test_the_demo_and_the_tail_work_with_each_kind_of_credential(harness: Harness, how: str):
    result = harness.ask("demo", *harness.shows()[how])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("That was a session's life.\n")
    result = harness.ask("tail", *harness.shows()[how])
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["actor"] == "ops"


def test_a_denied_caller_gets_one_line_with_the_reason(harness: Harness):
    trust = ("--tls-ca", harness.authority.file)
    pair = ("--tls-cert", harness.login.certificate, "--tls-key", harness.login.key)
    for options, why in (
        (
            ("--address", harness.server.address, *trust, *pair),
            "PERMISSION_DENIED: the caller may not call WatchEvents",
        ),
        (("--address", harness.bearer, *trust), f"UNAUTHENTICATED: {NOBODY}"),
    ):
        result = harness.ask("tail", *options)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"session-authority: {options[1]}: {why}\n"


def test_a_failed_connection_is_explained_with_the_option_to_change(harness: Harness):
    trust = ("--tls-ca", harness.authority.file)
    for options, why in (
        (("--address", harness.server.address, *trust), "give --tls-cert and --tls-key"),
        (("--address", harness.server.address), "the server speaks TLS: give --tls"),
        (("--address", harness.bearer), "the server speaks TLS: give --tls"),
        (("--address", harness.bearer, "--tls"), "give its CA with --tls-ca"),
        (("--address", harness.bearer, *trust, "--tls-server-name", "a.b"), "--tls-server-name"),
        (("--address", harness.health, *trust), "the server speaks plaintext: leave --tls"),
    ):
        result = harness.ask("health", *options)
        [line] = [
            line for line in result.stderr.splitlines() if line.startswith("session-authority: ")
        ]
        assert (result.returncode, result.stdout) == (1, "")
        assert line.startswith(f"session-authority: {options[1]}: no answer (UNAVAILABLE: ")
        assert why in line
        assert "Traceback" not in result.stderr


def test_a_watch_ends_when_its_token_is_removed(harness: Harness):
    token = harness.folder / "short.token"
    token.write_text(call("callers", "add", "ops", "--tokens", harness.tokens).stdout)
    added = read_tokens(harness.tokens)[-1].token_id
    trust = ("--tls-ca", harness.authority.file)
    options: Any = ["--address", harness.bearer, *trust, "--token-file", token]

    assert harness.ask("demo", *harness.shows()["token"]).returncode == 0
    wait_for(
        lambda: harness.ask("tail", *options).returncode == 0, "the token to be good", PATIENCE
    )
    with subprocess.Popen(
        [*COMMAND, "events", "tail", "--since", "1h", "--json", *map(str, options)],
        env=environment(harness.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stdout.readline(), "the tail shows earlier events"
        options = ("--token", added, "--tokens", harness.tokens)
        assert call("callers", "remove", "ops", *options).exit_code == 0
        assert watch.wait(PATIENCE) == 1
        assert watch.stderr.read().splitlines() == [
            f"session-authority: {harness.bearer}: UNAUTHENTICATED: {NOBODY}"
        ]


@pytest.mark.parametrize("broken", ["server_pair", "policy", "tokens"])
def test_a_server_with_broken_files_does_not_start(tmp_path: Path, broken: str):
    harness = Harness(tmp_path)
    path: Path = (
        harness.server_pair.certificate if broken == "server_pair" else getattr(harness, broken)
    )
    path.write_text("garbage\n")
    result = run(
        tmp_path,
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        str(tmp_path / "data"),
        **harness.settings(),
    )
    assert result.returncode in (1, 2)
    assert [line for line in result.stderr.splitlines() if f"{path}: " in line]
    assert "Traceback" not in result.stderr
