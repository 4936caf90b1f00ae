"""A command imports only what it needs: most of the time until it answers is spent on imports."""

from __future__ import annotations

import gc
import subprocess
import sys
from importlib import import_module

import pytest

from session_authority import cli
from session_authority.cli.terminal import MENDABLE

_PROGRAM = """
import sys
from session_authority.cli import main
sys.argv = ["session-authority", *sys.argv[1:]]
try:
    main()
except SystemExit:
    print()
    print(*sys.modules)
"""
# Only commands other than `dev`, `serve` and `version` need these modules.
_OF_OTHERS = {
    "httpx",
    "session_authority.relay",
    "session_authority.console",
    "session_authority.cli.callers",
    "session_authority.cli.inspection",
    "session_authority.cli.keys",
    "session_authority.cli.relay",
}
_OF_SERVERS = {
    "grpc",
    "redis",
    "pydantic_settings",
    "cryptography",
    "jwt",
    "prometheus_client",
    "structlog",
    "ua_parser",
    "session_authority.processes",
    "session_authority.rpc",
    "session_authority.store",
}
_UNNEEDED = {
    "--version": _OF_OTHERS | _OF_SERVERS,
    "version": _OF_OTHERS | _OF_SERVERS,
    "dev --help": _OF_OTHERS,
    "serve --help": _OF_OTHERS,
    "devices --help": {
        "httpx",
        "redis",
        "ua_parser",
        "session_authority.processes",
        "session_authority.relay",
        "session_authority.rpc",
        "session_authority.store",
    },
    "keys --help": {
        "grpc",
        "httpx",
        "redis",
        "ua_parser",
        "session_authority.processes",
        "session_authority.rpc",
        "session_authority.store",
    },
}


@pytest.mark.parametrize("command", _UNNEEDED)
def test_a_command_imports_no_more_than_it_needs(command: str) -> None:
    run = [sys.executable, "-c", _PROGRAM, *command.split()]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "session_authority.cli" in imported
    assert imported & _UNNEEDED[command] == set()


def test_arguments_without_a_command_load_all_commands() -> None:
    for arguments in ([], ["--help"], ["-h"], ["nothing"], ["--install-completion"]):
        assert set(cli._wanted(arguments)) == set(cli.COMMANDS)
    for name in cli.COMMANDS:
        assert set(cli._wanted([name, "--help"])) == {name}


def test_shell_completion_loads_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SESSION_AUTHORITY_COMPLETE", "complete_bash")
    assert set(cli._wanted(["keys"])) == set(cli.COMMANDS)


@pytest.mark.parametrize("module", MENDABLE)
def test_each_mendable_error_is_defined_in_its_module(module: str) -> None:
    assert issubclass(getattr(import_module(module), MENDABLE[module]), Exception)


def test_a_failed_import_leaves_the_garbage_collector_enabled(monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> None:
        raise ImportError

    monkeypatch.setattr(cli, "command_line", fail)
    with pytest.raises(ImportError):
        cli.main()
    is_on = gc.isenabled()
    gc.enable()
    assert is_on
