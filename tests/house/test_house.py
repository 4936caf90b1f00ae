"""The house is complete: what is shipped, locked, offered by make and said by scripts leaves
nothing out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "session_authority"
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
LUA_SCRIPTS = sorted((PACKAGE / "store" / "scripts").glob("*.lua"))
# A rule of the Makefile: its target, what it needs, its line of help if it has one, and what it
# runs.
RULE = re.compile(
    r"^(?P<target>[a-z][a-z-]*):(?P<needs>[^#=\n]*)(?:## (?P<help>\S.*))?\n(?P<recipe>(?:\t.*\n)*)",
    re.MULTILINE,
)
RULES = [match.groupdict() for match in RULE.finditer((ROOT / "Makefile").read_text())]


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path):
    source = tmp_path / "source"
    shutil.copytree(
        PACKAGE, source / "session_authority", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)

    (wheel,) = source.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    assert ours - shipped == set()
    assert {Path(name).suffix for name in ours} >= {".py", ".pyi", ".lua", ".typed"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["target"])
def test_every_make_target_is_listed_and_brings_what_it_uses(rule: dict[str, str]):
    assert rule["help"], "it has no line of help"
    makefile = (ROOT / "Makefile").read_text()
    assert f".PHONY: {rule['target']}\n" in makefile
    scripts = [
        (ROOT / name).read_text() for name in re.findall(r"scripts/[a-z_]+\.sh", rule["recipe"])
    ]
    runs = "".join([rule["recipe"], *scripts])
    for used, needed in (
        ("$(bin)", "$(venv)"),
        (".venv/bin", "$(venv)"),
        (".venv-protos/bin", "$(protos_venv)"),
    ):
        assert used not in runs or needed in rule["needs"].split()


def test_make_help_lists_every_target():
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [rule["target"] for rule in RULES]
    assert {"setup", "run", "test", "lint", "format", "protos", "requirements", "backends"} <= set(
        listed.split()
    )


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_requirements_are_hashed_and_name_no_place(path: Path):
    lines = path.read_text().splitlines()
    for line in lines:
        assert "://" not in line
        assert not re.search(r"(^|\s)--(index-url|extra-index-url|trusted-host|find-links)", line)
        assert not re.search(r"(^|[\s=@])/", line), "a path of some machine"
    pins = [number for number, line in enumerate(lines) if re.match(r"[\w.-]+==", line)]
    assert pins
    for number in pins:
        assert lines[number].endswith("\\")
        assert lines[number + 1].lstrip().startswith("--hash=sha256:")
    assert not [line for line in lines if line and line[0] not in " #" and "==" not in line], (
        "something is not pinned"
    )


def test_the_service_is_locked_as_it_is_tested():
    pins = {
        path.stem: dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE))
        for path in REQUIREMENTS
    }
    assert set(pins) == {"build", "dev", "protos", "runtime", "stubs-newest", "stubs-oldest"}
    assert pins["runtime"].items() <= pins["dev"].items()


def test_there_are_lua_scripts():
    assert LUA_SCRIPTS


@pytest.mark.parametrize("path", LUA_SCRIPTS, ids=lambda path: path.stem)
def test_a_lua_script_says_what_it_takes_and_gives(path: Path):
    header = []
    for line in path.read_text().splitlines():
        if not line.startswith("--"):
            break
        header.append(line)
    for word in ("Purpose", "KEYS", "ARGV", "Returns"):
        assert any(re.match(rf"--\s*{word}\b", line) for line in header), (
            f"its header names no {word}"
        )
