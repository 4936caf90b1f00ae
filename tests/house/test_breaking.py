"""The check that the contract breaks no client, run on a small repository of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = re.compile(r"^option .*\n", re.MULTILINE)
# The options of the contract for other languages, one line for each.
OPTION_LINES = OPTIONS.findall((ROOT / "protos/session_authority/v1/errors.proto").read_text())


def name_of(line: str) -> str:
    """The name of the option that a line of a proto file sets."""
    return line.split()[1]


class Checkout:
    """A repository with the present contract, and the check."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(ROOT / "protos", folder / "protos")
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        shutil.copy(ROOT / "buf.yaml", folder)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        self._git("init", "--quiet", "--initial-branch=main")

    def _git(self, *arguments: str) -> None:
        me = ["-c", "user.name=Sami", "-c", "user.email=sami@example.org"]
        subprocess.run(["git", *me, *arguments], cwd=self._folder, check=True, capture_output=True)

    def remove(self, pattern: re.Pattern[str]) -> None:
        """Removes a text from the public contract's two files. Each of them must have it."""
        for path in (self._folder / "protos/session_authority/v1").glob("*.proto"):
            text, count = pattern.subn("", path.read_text())
            assert count, f"{path.name} has nothing to remove"
            path.write_text(text)

    def add(self, line: str) -> None:
        """Adds a file-level line to the public contract's two files."""
        for path in (self._folder / "protos/session_authority/v1").glob("*.proto"):
            package = "package session_authority.v1;\n"
            before, after = path.read_text().split(package)
            path.write_text(f"{before}{package}{line}{after}")

    def commit_on_main(self) -> None:
        """Commits the present contract on main, as the contract that clients have."""
        self._git("add", "protos")
        self._git("commit", "--quiet", "--message=The contract")

    def check(self) -> subprocess.CompletedProcess[str]:
        """Runs the check."""
        script = [self._folder / "scripts/check_breaking.sh"]
        return subprocess.run(script, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_contract_has_options_for_other_languages():
    named = set(map(name_of, OPTION_LINES))
    assert named == {
        *("csharp_namespace", "go_package", "java_multiple_files", "java_outer_classname"),
        *("java_package", "objc_class_prefix", "php_metadata_namespace", "php_namespace"),
        "ruby_package",
    }


def test_options_may_be_added_to_a_contract_without_any(checkout: Checkout):
    checkout.remove(OPTIONS)
    checkout.commit_on_main()
    for line in OPTION_LINES:
        checkout.add(line)
    checked = checkout.check()
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_exception_is_only_for_these_options(checkout: Checkout):
    checkout.remove(OPTIONS)
    checkout.commit_on_main()
    for line in [*OPTION_LINES, "option cc_enable_arenas = false;\n"]:
        checkout.add(line)
    checked = checkout.check()
    assert checked.returncode == 1
    assert all("cc_enable_arenas" in fault for fault in checked.stdout.splitlines())


@pytest.mark.parametrize("line", OPTION_LINES, ids=name_of)
def test_an_existing_option_never_changes(checkout: Checkout, line: str):
    checkout.commit_on_main()
    checkout.remove(re.compile(rf"^option {name_of(line)} .*\n", re.MULTILINE))
    checkout.add(line.replace("true", "false") if "true" in line else line.replace('";', '2";'))
    checked = checkout.check()
    assert checked.returncode == 1
    assert all(name_of(line) in fault for fault in checked.stdout.splitlines())


@pytest.mark.parametrize("line", OPTION_LINES, ids=name_of)
def test_an_option_is_not_added_to_existing_ones(checkout: Checkout, line: str):
    checkout.remove(re.compile(rf"^option {name_of(line)} .*\n", re.MULTILINE))
    checkout.commit_on_main()
    checkout.add(line)
    assert checkout.check().returncode == 1


def test_existing_options_are_never_removed(checkout: Checkout):
    checkout.commit_on_main()
    checkout.remove(OPTIONS)
    assert checkout.check().returncode == 1
