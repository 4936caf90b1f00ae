"""Runs the command in this process, and reads what it says."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from session_authority import cli


def call(*arguments: object, **settings: object) -> Result:
    """Runs the command. Settings are named without their prefix."""
    return CliRunner().invoke(
        cli.app,
        [str(argument) for argument in arguments],
        prog_name="session-authority",
        env={f"SESSION_AUTHORITY_{name}": str(value) for name, value in settings.items()},
    )


def fault(result: Result) -> tuple[int, str]:
    """The exit code, and the one line that a failed command says. Nothing else is printed, least of
    all a traceback.
    """
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("session-authority: ")
    return result.exit_code, line.removeprefix("session-authority: ")
