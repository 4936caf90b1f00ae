"""The shells that people paste commands into, as they are when a person uses them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.backends import missing

# The shells don't read the start-up files of the person who runs the tests. They are interactive,
# as for a person: only an interactive zsh refuses comments.
SHELLS = {
    "bash": ["bash", "--noprofile", "--norc", "--noediting", "-i"],
    "dash": ["dash", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
WHOLE = "pasted to the end"


def blocks(page: str) -> list[str]:
    """The shell lines of a page, block by block, without the indent of a list."""
    found = re.findall(r"^( *)```sh\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def require(shell: str) -> None:
    """Skips the test where the machine lacks the shell."""
    if shutil.which(shell) is None:
        missing(shell)


class Pasted:
    """Lines that are pasted into a shell. As for a person, the shell goes on after a line that
    fails, unless it is `strict`.
    """

    def __init__(
        self, shell: str, text: str, cwd: Path, env: dict[str, str], log: Path, *, strict: bool
    ) -> None:
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        script = log.with_suffix(".sh")
        script.write_text(f"{text}\nprintf '%s\\n' '{WHOLE}'\n")
        with script.open() as lines, self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*SHELLS[shell], *(["-e"] if strict else [])],
                cwd=cwd,
                env={**env, "PS1": "", "PS2": "", "HISTFILE": ""},
                stdin=lines,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait(self, seconds: float) -> str:
        """Waits for the shell's end. Returns what was printed, with the errors last."""
        self.process.wait(seconds)
        return self.printed + self._err.read_text()

    @property
    def printed(self) -> str:
        """Standard output."""
        return self._out.read_text()
