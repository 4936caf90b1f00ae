"""The systemd units: systemd accepts them, and they leave a compromised process few rights."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.backends import missing
from tests.support.fork_server import ROOT

UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))
INSTALLED = "/opt/session-authority/bin/session-authority"
# Of 10; systemd itself calls anything below 4 fine.
MAX_EXPOSURE = 2.0


def analyze(*arguments: str | Path) -> str:
    """The output of systemd-analyze. Fails if systemd finds a fault."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def exposure(unit: Path) -> float:
    told = analyze("security", "--offline=yes", "--no-pager", unit)
    [level] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", told)
    return float(level)


def test_there_is_a_unit_for_each_command_that_keeps_running():
    started = [re.findall(rf"^ExecStart={INSTALLED} (.*)$", u.read_text(), re.M) for u in UNITS]
    assert sorted(started) == [["gateway"], ["relay"], ["serve"]]


@pytest.mark.parametrize(
    ("command", "setting", "page", "written"),
    [
        ("serve", "LogsDirectory", "logs.md", r"`/var/log/([^/`]+)/[^`]+`"),
        ("gateway", "RuntimeDirectory", "gateway.md", r'unix_socket = "/run/([^/"]+)/[^"]+"'),
    ],
)
def test_every_path_that_the_docs_let_a_unit_write_has_a_folder(
    command: str, setting: str, page: str, written: str
):
    """The unit can write nothing else."""
    [text] = [
        text
        for text in (unit.read_text() for unit in UNITS)
        if f"\nExecStart={INSTALLED} {command}\n" in text
    ]
    assert "\nProtectSystem=strict\n" in text
    folders = re.findall(rf"^{setting}=(.*)$", text, re.M)
    assert set(re.findall(written, (ROOT / "docs" / page).read_text())) == set(folders) != set()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_each_unit(unit: Path, tmp_path: Path):
    """With a program that exists on every machine."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(INSTALLED, "/bin/true"))
    assert analyze("verify", "--man=no", copy) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_is_hardened(unit: Path, tmp_path: Path):
    assert exposure(unit) <= MAX_EXPOSURE
    careless = tmp_path / unit.name
    text = unit.read_text().replace("CapabilityBoundingSet=\n", "")
    careless.write_text(re.sub("^(SystemCall|Private|Protect).*\n", "", text, flags=re.M))
    assert exposure(careless) > MAX_EXPOSURE, "a figure that can't rise says nothing"
