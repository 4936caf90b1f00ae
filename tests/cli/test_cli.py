"""The command line explains itself: its help says what to do, and its errors name the fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from session_authority import __version__, cli
from tests.cli.harness import call

COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): (
        "dev",
        "serve",
        "health",
        "inspect",
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
    ("serve",): ("--listen", "names all of them at once", "check", "docs/security.md"),
    ("check",): ("--listen", "exit code is 1", "starts nothing"),
    ("health",): (
        "--address",
        "--liveness",
        "--timeout",
        "exit code is 0",
        "SESSION_AUTHORITY_LISTEN",
    ),
    ("demo",): (
        "--address",
        "--patience",
        "SESSION_AUTHORITY_GRACE",
        "SESSION_AUTHORITY_DURABLE_AFTER",
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
    ("keys", "list"): ("--dir", "--state", "--ids"),
    ("keys", "promote"): ("--dir", "KEY_ID"),
    ("keys", "revoke"): ("--dir", "KEY_ID", "--replace", "sign in again"),
    ("keys", "retire"): ("--dir", "KEY_ID", "--force"),
    ("restored",): ("--at TIME", "--dir", "from a backup", "sign in again"),
    ("callers",): ("add", "list", "remove", "SHA-256", "access policy", "within a second"),
    ("callers", "add"): ("CALLER", "--tokens FILE", "only once"),
    ("callers", "list"): ("--tokens FILE",),
    ("callers", "remove"): ("CALLER", "--token TOKEN_ID", "--tokens FILE"),
    ("devices",): ("list", "revoke", "manager"),
    ("devices", "list"): ("USER", "--signed-out", "--json", "--address", "--token-file"),
    ("devices", "revoke"): (
        "USER",
        "[DEVICE]",
        "--all",
        "--all-but DEVICE",
        "--reason TEXT",
        "Exit code 1",
    ),
    ("inspect",): ("USER", "--repair", "--yes", "--json", "later version", "Exit code 1"),
    ("sessions",): ("show", "operator"),
    ("sessions", "show"): ("--access-token FILE", "--device", "standard input", "Exit code 1"),
    ("events",): ("tail",),
    ("events", "tail"): ("--address", "--json", "--user", "--type", "--since", "--count"),
    ("gateway",): ("--config FILE", "--check", "as many as you like"),
    ("relay",): ("--endpoints FILE", "status", "secret", "dead", "share the work"),
    ("relay", "status"): ("--endpoints",),
    ("relay", "secret"): ("signatures",),
    ("relay", "dead"): ("list", "retry", "drop"),
    ("relay", "dead", "list"): ("--endpoint NAME", "--endpoints"),
    ("relay", "dead", "retry"): ("EVENT_ID", "--all", "--endpoint NAME"),
    ("relay", "dead", "drop"): ("EVENT_ID", "--all", "--endpoint NAME"),
}


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_the_help_explains_each_command(command: tuple[str, ...]):
    result = call(*command, "--help")
    assert result.exit_code == 0
    text = re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", result.stdout))
    for word in COMMANDS[command]:
        assert word in text
    assert "[bold]" not in text, "markup is shown as it is written"
    assert not re.search(r"<(bool|int|float|str|path|list)\b", text, re.IGNORECASE)
    assert call(*command, "-h").stdout == result.stdout


def commands_of(app: typer.Typer, before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Returns all commands and groups of commands."""
    found = {
        (*before, c.name or c.callback.__name__) for c in app.registered_commands if c.callback
    }
    for group in app.registered_groups:
        assert group.typer_instance is not None
        here = (*before, str(group.name))
        found |= {here} | commands_of(group.typer_instance, here)
    return found


def test_the_help_of_every_command_is_tested():
    assert set(COMMANDS) - {()} == commands_of(cli.app)


def test_without_a_command_the_help_is_shown():
    result = call()
    assert "Start with dev" in result.output


@pytest.mark.parametrize(
    "arguments", [("fly",), ("dev", "--fly"), ("keys", "promote"), ("health", "--timeout", "x")]
)
def test_wrong_usage_prints_the_usage(arguments: tuple[str, ...]):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Usage: session-authority" in result.stderr
    assert "Traceback" not in result.output


def test_the_version_command_prints_the_version():
    result = call("version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


def test_the_version_option_prints_the_version():
    assert call("--version").stdout == call("version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str, monkeypatch: pytest.MonkeyPatch):
    """The request is the one that the script of `--install-completion` sends."""
    asked = {
        "_SESSION_AUTHORITY_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "session-authority re",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": "session-authority re",
        "COMP_CWORD": "1",
    }
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    told = call().stdout
    assert {word for word in ("relay", "redis-acl", "serve") if word in told} == {
        "relay",
        "redis-acl",
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(shell: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    told = call("--show-completion", shell)
    assert told.exit_code == 0
    assert "_SESSION_AUTHORITY_COMPLETE" in told.stdout


def test_a_command_that_reads_settings_names_all_wrong_settings(tmp_path: Path):
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
