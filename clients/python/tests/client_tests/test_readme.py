"""The README's own code, run as it stands against a development server; and its tables leave nothing out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import session_authority_client as sa
from session_authority_client.transport import DEFAULT_TIMEOUT
from tests.support.certificates import Authority

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"<!-- (run|example) -->\n```python\n(.*?)```", README, re.DOTALL)
RUN = [code for kind, code in BLOCKS if kind == "run"]
EXAMPLES = [code for kind, code in BLOCKS if kind == "example"]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def section(name: str) -> str:
    return README.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def first_column(name: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section(name), re.MULTILINE)


@pytest.mark.parametrize("code", RUN, ids=["threads", "asyncio"])
def test_the_quick_start_does_what_it_says(code: str, address: str, tmp_path: Path):
    for shown, here in (
        ("127.0.0.1:50051", address),
        ("timeout=timedelta(seconds=2)", "timeout=timedelta(seconds=20)"),
    ):
        assert shown in code
        code = code.replace(shown, here)
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("code", EXAMPLES)
def test_what_it_shows_of_certificates_can_be_run(code: str, tmp_path: Path):
    authority = Authority(tmp_path, "ca")
    pair = authority.sign(uris=["spiffe://example.org/gateway"])
    pair.certificate.rename(tmp_path / "gateway.pem")
    pair.key.rename(tmp_path / "gateway.key")
    (tmp_path / "token").write_text("hunter2\n")
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_code_is_run():
    assert README.count("```python") == len(BLOCKS)


def test_every_method_is_told_of():
    public = [name for name, _ in inspect.getmembers(sa.SessionAuthority, callable) if not name.startswith("_")]
    assert sorted(first_column("Methods")) == public


def test_every_exception_is_told_of():
    errors = {
        name for name in sa.__all__ if isinstance(getattr(sa, name), type) and issubclass(getattr(sa, name), Exception)
    }
    assert set(first_column("When a call fails")) == errors - {"SessionAuthorityError"}


def test_the_numbers_are_those_of_the_code():
    assert f"{DEFAULT_TIMEOUT.total_seconds() * 1000:g} ms" in section("Timeouts and retries")
    needs = re.findall(r'"(\w+)>=([\d.]+)"', (PROJECT / "pyproject.toml").read_text())
    for name, version in needs:
        if name in ("grpcio", "protobuf"):
            assert f"`{name}` ≥ {version}" in section("Versions")
