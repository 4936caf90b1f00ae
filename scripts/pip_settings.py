"""Writes pip's configuration of this machine into a file, so that pip in the build of an image gets
packages from the same index.

It is run as scripts/pip_settings.py FILE CA_FILE.

Settings that name files of this machine are left out. Only the CAs are copied.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

# Where the Dockerfile mounts the CAs.
CA_IN_BUILD = "/run/secrets/ca"
SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")


def settings() -> dict[str, str]:
    """The settings that pip itself reports. Environment variables override files."""
    printed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    found = {}
    for line in sorted(printed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2].removeprefix("default-")] = ast.literal_eval(value)
    return found


def main(file: Path, ca_file: Path) -> None:
    """Writes pip's configuration, and a copy of this machine's CAs."""
    found = settings()
    cas = found.get("cert") or os.environ.get("SSL_CERT_FILE")
    ca_file.write_bytes(b"" if cas is None else Path(cas).read_bytes())
    parser = RawConfigParser()
    parser["global"] = {name: value for name, value in found.items() if name in SETTINGS}
    if cas is not None:
        parser["global"]["cert"] = CA_IN_BUILD
    file.touch(mode=0o600)
    with file.open("w") as out:
        parser.write(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
