"""The client for threads is what its source generates, and has the same methods."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import session_authority_client as sa

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    for folder in ("_async", "_sync"):
        shutil.copytree(
            PROJECT / "session_authority_client" / folder,
            tmp_path / "session_authority_client" / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def unasync(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = project / "scripts" / "unasync.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


def contents(project: Path) -> dict[str, str]:
    return {
        path.name: path.read_text()
        for path in (project / "session_authority_client" / "_sync").glob("*.py")
    }


def test_what_is_committed_is_fresh(project: Path):
    assert unasync(project, "--check").returncode == 0


def test_what_is_stale_is_found_and_made_anew(project: Path):
    fresh = contents(project)
    sync = project / "session_authority_client" / "_sync"
    for spoil in (
        lambda: (sync / "client.py").write_text(fresh["client.py"] + "\n"),
        (sync / "client.py").unlink,
        lambda: (sync / "left_over.py").write_text('"""Whose source is gone."""\n'),
    ):
        spoil()
        before = contents(project)
        checked = unasync(project, "--check")
        assert checked.returncode == 1
        assert "Run: make protos" in checked.stderr
        assert contents(project) == before, "a check changes nothing"
        assert unasync(project).returncode == 0
        assert contents(project) == fresh
        assert unasync(project, "--check").returncode == 0


def test_nothing_of_asyncio_is_left():
    for text in contents(PROJECT).values():
        code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        assert "Async" not in code
        assert not {"async", "await", "asyncio"} & set(
            code.replace("(", " ").replace(".", " ").split()
        )


def public(kind: type) -> dict[str, str]:
    """Its methods and what they take and give; of what is iterated over, without how."""
    return {
        name: str(inspect.signature(member)).replace("AsyncIterator", "Iterator")
        for name, member in inspect.getmembers(kind, callable)
        if name == "__init__" or not name.startswith("_")
    }


def test_both_have_the_same_methods():
    ours, theirs = public(sa.SessionAuthority), public(sa.AsyncSessionAuthority)
    assert ours == theirs
    assert {"__init__", "close", "validate_session", "watch_events", "devices"} <= ours.keys()
    for name in ours:
        one, other = getattr(sa.SessionAuthority, name), getattr(sa.AsyncSessionAuthority, name)
        assert (
            inspect.iscoroutinefunction(other)
            or inspect.isasyncgenfunction(other)
            or name == "__init__"
        )
        assert not inspect.iscoroutinefunction(one)
        assert one.__doc__ == other.__doc__
