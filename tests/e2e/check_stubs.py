"""The slow commands of docs/protocol.md, run unchanged: `make stub-builds`. They need Maven and a
JDK, or Rust. They download plugins and libraries, and compile the stubs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from session_authority.v1 import session_authority_pb2 as pb
from tests.e2e.protocol_harness import generate
from tests.support.backends import missing

pytestmark = pytest.mark.one_acceptor

METHODS = [
    method.name for method in pb.DESCRIPTOR.services_by_name["SessionAuthorityService"].methods
]
# The oldest Rust that tonic builds with.
OLDEST_RUST = (1, 88)


def _rust() -> tuple[int, int]:
    """The version of the Rust compiler; 0.0 where there is none."""
    if shutil.which("rustc") is None:
        return (0, 0)
    told = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout
    found = re.match(r"rustc (\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def test_java_compiles_the_stubs(tmp_path: Path):
    stubs = generate("java", tmp_path, "mvn", "javac")
    listed = subprocess.run(
        ["javap", "-cp", "classes", "com.sessionauthority.v1.SessionAuthorityServiceGrpc"],
        cwd=stubs,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert sorted(re.findall(r"> get(\w+)Method\(\)", listed)) == sorted(METHODS)


def test_rust_compiles_the_stubs(tmp_path: Path):
    if _rust() < OLDEST_RUST:
        missing("a Rust compiler that is new enough for tonic")
    # The results of cargo's build stay, so that another run is quick.
    kept = Path(__file__).parents[2] / ".tools" / "rust-stubs"
    kept.mkdir(parents=True, exist_ok=True)
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / "rust").symlink_to(kept)
    stubs = generate("rust", tmp_path, "cargo")
    newest = max(stubs.glob("debug/build/*/out/session_authority.v1.rs"), key=os.path.getmtime)
    found = re.findall(r"pub async fn (\w+)\(\s*&mut self,", newest.read_text("utf-8"))
    assert found == [re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in METHODS]
