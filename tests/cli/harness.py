"""Runs the command in this process, and reads its output."""

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
    """Returns the exit code and the one line of a failed command.

    Asserts that nothing else is printed, in particular no traceback.
    """
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("session-authority: ")
    return result.exit_code, line.removeprefix("session-authority: ")
