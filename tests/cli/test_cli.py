"""The command teaches: its help says what to do, its errors are one line and name the fault, its
exit codes tell them apart.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner, Result

from session_authority import __version__, cli
from session_authority.tokens import Algorithm, load_keyring
from tests.support.commands import Caller, dev_server, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): (
        "dev",
        "serve",
        "health",
        "demo",
        "keys",
        "version",
        "SESSION_AUTHORITY_CONFIG",
        "Exit codes",
    ),
    ("dev",): (
        "--listen",
        "--data-dir",
        "127.0.0.1:50051",
        "survive a restart",
        "SESSION_AUTHORITY_REDIS_URL",
    ),
    ("serve",): ("--listen", "naming all of it at once", "check", "docs/security.md"),
    ("check",): ("--listen", "exit code 1", "Starts nothing"),
    ("health",): ("--address", "--timeout", "exit code 0", "SESSION_AUTHORITY_LISTEN"),
    ("demo",): (
        "--address",
        "--patience",
        "SESSION_AUTHORITY_GRACE",
        "SESSION_AUTHORITY_ALARM_AFTER",
    ),
    ("redis-acl",): (
        "--user NAME",
        "--format",
        "setuser",
        "file",
        "PASSWORD",
        "SESSION_AUTHORITY_REDIS_PREFIX",
    ),
    ("version",): ("version",),
    ("keys",): ("generate", "list", "promote", "revoke", "retire", "published", "within a second"),
    ("keys", "generate"): ("--dir", "--algorithm", "EdDSA", "ES256", "RS256", "HS256", "--promote"),
    ("keys", "list"): ("--dir",),
    ("keys", "promote"): ("--dir", "KEY_ID"),
    ("keys", "revoke"): ("--dir", "KEY_ID", "--replace", "sign in again"),
    ("keys", "retire"): ("--dir", "KEY_ID", "--force"),
    ("callers",): ("add", "list", "remove", "SHA-256", "access policy", "within a second"),
    ("callers", "add"): ("CALLER", "--tokens FILE", "this once"),
    ("callers", "list"): ("--tokens FILE",),
    ("callers", "remove"): ("CALLER", "--token TOKEN_ID", "--tokens FILE"),
    ("events",): ("tail",),
    ("events", "tail"): ("--address", "--json", "--user", "--type", "--since", "--count"),
    ("relay",): ("--endpoints FILE", "status", "secret", "dead", "share the work"),
    ("relay", "status"): ("--endpoints",),
    ("relay", "secret"): ("sign with",),
    ("relay", "dead"): ("list", "retry", "drop"),
    ("relay", "dead", "list"): ("--endpoint NAME", "--endpoints"),
    ("relay", "dead", "retry"): ("EVENT_ID", "--all", "--endpoint NAME"),
    ("relay", "dead", "drop"): ("EVENT_ID", "--all", "--endpoint NAME"),
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command finds no settings of whoever runs the tests, and leaves no set-up of logs
    behind.
    """
    for name in os.environ:
        if name.startswith("SESSION_AUTHORITY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        "session_authority.processes.workers.run",
        lambda *_: pytest.fail("a server was started in this process"),
    )
    yield
    structlog.reset_defaults()


def call(*arguments: str, **settings: str) -> Result:
    """The command, run in this process."""
    return CliRunner().invoke(
        cli.app,
        list(arguments),
        prog_name="session-authority",
        env={f"SESSION_AUTHORITY_{name}": value for name, value in settings.items()},
    )


def fault(result: Result) -> tuple[int, str]:
    """The exit code, and the one line that a failed command says. Nothing else is printed, least of
    all a traceback.
    """
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("session-authority: ")
    return result.exit_code, line.removeprefix("session-authority: ")


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_help_teaches(command: tuple[str, ...]):
    result = call(*command, "--help")
    assert result.exit_code == 0
    text = re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", result.stdout))
    for word in COMMANDS[command]:
        assert word in text
    assert "[bold]" not in text, "markup is shown as it is written"


def commands_of(app: typer.Typer, before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """All commands and groups of commands."""
    found = {
        (*before, c.name or c.callback.__name__) for c in app.registered_commands if c.callback
    }
    for group in app.registered_groups:
        assert group.typer_instance is not None
        here = (*before, str(group.name))
        found |= {here} | commands_of(group.typer_instance, here)
    return found


def test_no_command_is_left_out():
    assert set(COMMANDS) - {()} == commands_of(cli.app)


def test_without_a_command_it_shows_its_help():
    result = call()
    assert "Start with dev" in result.output


@pytest.mark.parametrize(
    "arguments", [("fly",), ("dev", "--fly"), ("keys", "promote"), ("health", "--timeout", "x")]
)
def test_wrong_usage(arguments: tuple[str, ...]):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Usage: session-authority" in result.stderr
    assert "Traceback" not in result.output


def test_version():
    result = call("version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


# --- keys -----------------------------------------------------------------------------------------


def table(folder: Path) -> dict[str, str]:
    """What `keys list` says: the state of each key."""
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


def test_the_life_of_keys(tmp_path: Path):
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


def test_a_key_that_leaked(tmp_path: Path):
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
    since = ring.key(leaked).revoked
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


def test_several_keys_that_leaked(tmp_path: Path):
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


def test_a_key_that_not_everybody_can_know_yet_is_warned_of(tmp_path: Path):
    folder = ("--dir", str(tmp_path / "keys"))
    assert call("keys", "generate", "--promote", *folder).stderr == "", (
        "the first one replaces none"
    )
    assert (
        "may not, and refuses what it signs."
        in call("keys", "generate", "--promote", *folder).stderr
    )
    young = call("keys", "generate", *folder).stdout.strip()
    result = call("keys", "promote", young, *folder)
    assert (result.exit_code, result.stdout) == (0, f"{young} signs.\n")
    assert result.stderr.startswith(f"{young} was made ")
    path = tmp_path / "keys" / f"{call('keys', 'generate', *folder).stdout.strip()}.json"
    key = json.loads(path.read_text())
    path.write_text(json.dumps({**key, "created": "2026-01-01T00:00:00Z"}))
    assert call("keys", "promote", key["kid"], *folder).stderr == ""


def test_keys_that_cannot_be_had(tmp_path: Path):
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


def test_each_key_is_a_line_however_narrow_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    kids = [
        call("keys", "generate", "--dir", str(tmp_path / "keys")).stdout.strip() for _ in range(2)
    ]
    assert table(tmp_path / "keys") == dict.fromkeys(kids, "published")


def test_the_key_folder_of_the_settings(tmp_path: Path):
    folder = tmp_path / "keys"
    kid = call("keys", "generate", "--promote", KEYS=str(folder)).stdout.strip()
    assert table(folder) == {kid: "signing"}
    assert kid in call("keys", "list", KEYS=str(folder)).stdout


def test_key_files_are_for_their_owner_only(tmp_path: Path):
    call("keys", "generate", "--dir", str(tmp_path / "keys"))
    for path in (tmp_path / "keys", *(tmp_path / "keys").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_keys_that_others_get_at_are_warned_of(tmp_path: Path):
    folder = tmp_path / "keys"
    kid = call("keys", "generate", "--promote", "--dir", str(folder)).stdout.strip()
    (folder / f"{kid}.json").chmod(0o644)
    result = call("keys", "list", "--dir", str(folder))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{folder / kid}.json: its mode 0644")
    assert "chmod" in result.stderr


# --- what refuses to start ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:50051", "[::]:0", "192.0.2.1:50051", "host.example:50051"]
)
def test_dev_is_for_one_machine(tmp_path: Path, listen: str):
    other = f"{listen.rpartition(':')[0]}:1"
    result = call(
        "dev", "--listen", listen, "--data-dir", str(tmp_path / "data"), HEALTH_LISTEN=other
    )
    rule = (
        "can be reached from elsewhere; `dev` listens on loopback (127.0.0.1, ::1, localhost) only,"
        " `serve` is for the rest"
    )
    assert result.stderr.splitlines() == [
        f"session-authority: SESSION_AUTHORITY_LISTEN: {listen} {rule}",
        f"session-authority: SESSION_AUTHORITY_HEALTH_LISTEN: {other} {rule}",
    ]
    assert result.exit_code == 2
    assert not (tmp_path / "data").exists()


def test_metrics_that_others_could_reach_are_refused(tmp_path: Path):
    code, text = fault(call("dev", "--data-dir", str(tmp_path), METRICS_LISTEN="0.0.0.0:9464"))
    assert (
        code,
        text.startswith("SESSION_AUTHORITY_METRICS_LISTEN: 0.0.0.0:9464 can be reached"),
    ) == (2, True)


def test_metrics_need_a_port_for_each_worker(tmp_path: Path):
    for address in ("127.0.0.1:0", "127.0.0.1:65535"):
        code, text = fault(
            call("dev", "--data-dir", str(tmp_path), METRICS_LISTEN=address, WORKERS="2")
        )
        assert (code, "must leave each worker a port" in text) == (2, True)


def test_a_key_folder_that_is_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "keys").write_text("")
    code, _ = fault(call("dev", "--data-dir", str(tmp_path), REDIS_URL="redis://127.0.0.1:1"))
    assert code == 2


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h:port",
        "redis://:hunter2@h/zero",
        "redis://:hunter2@h?ssl=1",
        "redis://:hunter2@",
        "redis://:hunter2@h1,h2",
        "redis+sentinel://:hunter2@h1,h2",
        "redis+cluster://:hunter2@h/1",
        "unix://:hunter2@h/path",
        "postgres://:hunter2@h",
        "hunter2",
        "redis://:hunter2[@h",
    ],
)
def test_a_store_url_that_is_wrong_is_not_repeated(tmp_path: Path, url: str):
    code, text = fault(call("dev", "--data-dir", str(tmp_path), REDIS_URL=url))
    assert code == 2
    assert text.startswith("SESSION_AUTHORITY_REDIS_URL: ")
    assert "hunter2" not in text


def test_wrong_settings_are_named_by_every_command(tmp_path: Path):
    for arguments in (["dev"], ["serve"], ["check"], ["health"], ["demo"], ["keys", "list"]):
        result = call(*arguments, TOKEN_TTL="soon", TOKEN_TLL="1h")
        assert result.exit_code == 2
        assert result.stderr.splitlines() == [
            "session-authority: SESSION_AUTHORITY_TOKEN_TLL: is not a setting",
            (
                "session-authority: SESSION_AUTHORITY_TOKEN_TTL: must be a duration, like 90s, 15m,"
                " 12h, 30d or ISO 8601's PT15M"
            ),
        ]
    assert call("version", TOKEN_TTL="soon").exit_code == 0


def test_a_data_folder_that_is_a_file(tmp_path: Path):
    (tmp_path / "file").touch()
    code, text = fault(call("dev", "--data-dir", str(tmp_path / "file")))
    assert (code, text) == (2, f"--data-dir: can't make {tmp_path / 'file'}: File exists")


# --- against a running server ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dev") / "data"


@pytest.fixture(scope="module")
def address(data_dir: Path) -> Iterator[str]:
    """A dev server in a hurry."""
    with dev_server(data_dir, GRACE="1s", ALARM_AFTER="2s", TOKEN_TTL="10s") as server:
        wait_for(lambda: "Ctrl-C stops it." in server.printed, "it to greet")
        assert server.printed.count("grpcurl -plaintext") == 4
        assert f"session-authority demo --address {server.address}" in server.printed
        assert (
            "A superseded token is good for 1 s (GRACE), and raises the alarm after 2 s"
            in server.printed
        )
        assert str(data_dir) in server.printed
        yield server.address
        assert server.terminate() == 0, server.errors


def test_health_of_a_running_server(address: str):
    result = call("health", "--address", address)
    assert (result.exit_code, result.stdout) == (0, "SERVING\n")
    port = address.rpartition(":")[2]
    assert call("health", LISTEN=f"0.0.0.0:{port}").exit_code == 0, (
        "found where it can be called from here"
    )


def test_health_of_nothing():
    address = f"127.0.0.1:{free_port()}"
    code, text = fault(call("health", "--address", address, "--timeout", "0.1"))
    assert (code, text.startswith(f"{address}: no answer")) == (1, True)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code, _ = fault(
            call("health", "--address", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.1")
        )
        assert code == 1
    assert fault(call("health", "--address", "50051"))[0] == 2


def test_health_of_a_server_without_its_store(tmp_path: Path):
    nowhere = f"redis://:hunter2@127.0.0.1:{free_port()}"
    with dev_server(tmp_path / "data", REDIS_URL=nowhere) as server:
        assert fault(call("health", "--address", server.address)) == (
            1,
            f"{server.address}: NOT_SERVING",
        )
        assert fault(call("demo", "--address", server.address)) == (
            1,
            f"{server.address}: NOT_SERVING; start a server with `session-authority dev`",
        )
        assert server.terminate() == 0
        assert "hunter2" not in server.printed + server.errors


def test_the_demo_plays_a_whole_life(address: str):
    result = call("demo", "--address", address)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("That was a session's life.\n")
    assert "ACTIVE → SUPERSEDED → REPLAYED" in result.stdout
    assert "Sami's phone" in result.stdout
    assert "Chrome 140 on Windows" in result.stdout
    assert re.findall(r"^\d+\. ", result.stdout, re.MULTILINE) == [
        f"{step}. " for step in range(1, 10)
    ]
    with Caller(address) as caller:
        assert caller.health() == "SERVING"


def test_the_demo_says_what_it_waits_for_in_vain(tmp_path: Path):
    with dev_server(tmp_path / "data") as server:
        result = call("demo", "--address", server.address, "--patience", "1")
        [line] = result.stderr.splitlines()
        assert result.exit_code == 1
        assert "takes this server longer than 1 s" in line
        assert "SESSION_AUTHORITY_ALARM_AFTER=6s" in line


def test_a_second_server_on_the_same_folder_is_refused(address: str, data_dir: Path):
    result = run(data_dir.parent, "dev", "--listen", "127.0.0.1:0", "--data-dir", str(data_dir))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"session-authority: another server is running on the data folder {data_dir.resolve()}"
    ]
    with Caller(address) as caller:
        assert caller.status(caller.sign_in()) == "ACTIVE", "the first one is not disturbed"


def test_a_metrics_port_that_is_taken_is_refused(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mine = f"127.0.0.1:{taken.getsockname()[1]}"
        data = str(tmp_path / "data")
        result = run(
            tmp_path, "dev", "--listen", "127.0.0.1:0", "--data-dir", data, METRICS_LISTEN=mine
        )
        assert result.returncode == 1
        assert (
            f"session-authority: can't listen on {mine} for metrics: Address already in use"
            in result.stderr
        )
        assert "Traceback" not in result.stderr


def test_dev_mends_a_key_folder_that_was_left_empty(tmp_path: Path):
    (tmp_path / "data" / "keys").mkdir(parents=True)
    with dev_server(tmp_path / "data") as server, Caller(server.address) as caller:
        assert caller.status(caller.sign_in()) == "ACTIVE"
