"""The commands of docs/keys.md, pasted unchanged, in a folder that gets older between them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from session_authority.tokens import Keyring, KeyState, exposed, load_keyring
from tests.support.fork_server import ROOT, write_executable

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "keys.md").read_text("utf-8")
# Long enough for every process to read a new key, and for the tokens of an old key to expire.
LONG = timedelta(days=8)


def blocks(text: str) -> list[str]:
    """The shell lines, block by block."""
    return [without_indent(block) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def promises(text: str) -> dict[str, str]:
    """The output that the sentence after a block promises, by block."""
    sentence = r"(?:The list shows|It prints) [^`]*`(.*?)`"
    found = re.findall(rf"```sh\n((?:(?!```).)*)```\s+{sentence}", text, re.DOTALL)
    return {without_indent(block): promise for block, promise in found}


def without_indent(block: str) -> str:
    return re.sub(r"^ +", "", block, flags=re.MULTILINE)


def section(name: str) -> list[str]:
    """The blocks between a section's marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    assert begin in PAGE
    return blocks(PAGE.partition(begin)[2].partition(end)[0])


SECTIONS = re.findall(r"<!-- (\w+): begin -->", PAGE)
FIRST = blocks(PAGE)[0]
PROMISES = promises(PAGE)


class Shell:
    """A shell whose commands print what the sentences after them promise."""

    def __init__(self, folder: Path) -> None:
        self.keys, self.copy = folder / "keys", folder / "copy"
        self.copy.mkdir()
        self._variables = folder / "variables"
        self._variables.touch()
        command = folder / "bin" / "session-authority"
        command.parent.mkdir()
        write_executable(command)
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SESSION_AUTHORITY_")
        }
        self._environment = clean | {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SESSION_AUTHORITY_KEYS": str(self.keys),
            "COPY": str(self.copy),
        }

    def paste(self, block: str) -> str:
        """Runs a block, with the variables of earlier blocks. Returns its output."""
        keep = f'for name in OLD NEW LEAKED; do echo "$name=${{!name-}}"; done > {self._variables}'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f". {self._variables}\n{block}\n{keep}"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert PROMISES.get(block, "") in done.stdout
        return done.stdout + done.stderr

    def wait(self) -> None:
        """Makes every key older by `LONG`."""
        for path in self.keys.iterdir():
            key = json.loads(path.read_text())
            for name in ("created", "promoted", "revoked"):
                if name in key:
                    key[name] = (datetime.fromisoformat(key[name]) - LONG).isoformat()
            path.write_text(json.dumps(key))

    def states(self) -> dict[str, KeyState]:
        """The states of the keys, in the order in which the keys were made."""
        ring = self.ring()
        return {key.kid: ring.state(key.kid) for key in ring.keys}

    def ring(self) -> Keyring:
        """The key ring that a server reads."""
        return load_keyring(self.keys)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made.paste(FIRST)
    return made


def test_keys_are_rotated_as_the_page_says(shell: Shell):
    first = shell.ring().signing.kid
    publish, promote, retire = section("rotate")
    shell.wait()
    shell.paste(publish)
    assert list(shell.states().values()) == [KeyState.SIGNING, KeyState.PUBLISHED]
    shell.wait()
    assert "was made" not in shell.paste(promote), "by then every process knows the key"
    assert list(shell.states().values()) == [KeyState.VERIFYING, KeyState.SIGNING]
    with pytest.raises(AssertionError, match="may still be presented"):
        shell.paste(retire)
    shell.wait()
    shell.paste(retire)
    assert first not in shell.states()
    assert list(shell.states().values()) == [KeyState.SIGNING]


def test_a_leaked_key_is_revoked_as_the_page_says(shell: Shell):
    [leak] = section("leak")
    shell.paste(leak)
    assert list(shell.states().values()) == [KeyState.REVOKED, KeyState.SIGNING]
    [folder] = section("folder")
    shell.paste(section("rotate")[0])
    shell.paste(folder)
    assert list(shell.states().values()) == [KeyState.REVOKED] * 3 + [KeyState.SIGNING]


def test_keys_are_copied_with_the_modes_of_the_page(shell: Shell):
    [copy] = section("copy")
    shell.paste(copy)
    assert load_keyring(shell.copy).keys == shell.ring().keys
    for path in shell.keys.iterdir():
        path.chmod(0o666)
    assert len(exposed(shell.keys)) == 1
    [modes] = section("modes")
    assert "lets others" not in shell.paste(modes)
    assert exposed(shell.keys) == []


def test_a_lost_folder_is_replaced_as_the_page_says(shell: Shell):
    shell.keys.rename(shell.keys.with_name("lost"))
    [lost] = section("lost")
    shell.paste(lost)
    assert list(shell.states().values()) == [KeyState.SIGNING]


def test_no_block_of_the_page_is_left_out():
    """The tests above run every block of the page."""
    assert SECTIONS == ["rotate", "leak", "folder", "copy", "modes", "lost"]
    assert blocks(PAGE) == [FIRST, *(block for name in SECTIONS for block in section(name))]
    assert list(PROMISES.values()) == [
        "signing", "published", "verifying", "is gone", "is revoked since", "revoked",
    ]  # fmt: skip
