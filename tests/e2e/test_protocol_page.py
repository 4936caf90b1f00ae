"""docs/protocol.md: its quick commands are run unchanged. `make stub-builds` runs the slow ones."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_authority.v1 import session_authority_pb2 as pb
from tests.e2e.protocol_harness import PAGE, ROOT, generate, section
from tests.support.backends import missing
from tests.support.ca import CA
from tests.support.commands import DevServer, dev_server
from tests.support.shells import blocks

pytestmark = pytest.mark.one_acceptor

METHODS = [
    method.name for method in pb.DESCRIPTOR.services_by_name["SessionAuthorityService"].methods
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
POLICY = """
[callers.login]
roles = ["issuer"]
certificates = ["spiffe://example.org/login"]
"""


def without_versions(path: Path) -> list[str]:
    """The lines of a generated file without the lines that name the generator."""
    lines = path.read_text("utf-8").splitlines()
    return [line for line in lines if not re.match(r"//\W*protoc", line)]


# --- stubs ----------------------------------------------------------------------------------------


def test_stubs_for_go_equal_those_of_the_client(tmp_path: Path):
    stubs = generate("go", tmp_path, "go", "protoc") / "session_authority" / "v1"
    committed = ROOT / "clients" / "go" / "sessionauthorityv1"
    names = sorted(path.name for path in committed.glob("*.pb.go"))
    assert names
    assert sorted(path.name for path in stubs.iterdir()) == names
    for name in names:
        assert without_versions(stubs / name) == without_versions(committed / name)


def test_stubs_for_typescript_equal_those_of_the_client(tmp_path: Path):
    stubs = generate("typescript", tmp_path, "npx")
    committed = ROOT / "clients" / "typescript" / "src" / "gen"
    found = sorted(path.relative_to(stubs) for path in stubs.rglob("*.ts"))
    assert found == sorted(
        path.relative_to(committed) for path in committed.glob("session_authority/**/*.ts")
    )
    for name in found:
        assert (stubs / name).read_text("utf-8") == (committed / name).read_text("utf-8")


def test_stubs_for_ruby_have_every_method(tmp_path: Path):
    stubs = generate("ruby", tmp_path, "protoc", "grpc_ruby_plugin")
    services = stubs / "session_authority" / "v1" / "session_authority_services_pb.rb"
    assert re.findall(r"rpc :(\w+),", services.read_text("utf-8")) == METHODS
    assert "module SessionAuthority\n  module V1\n" in services.read_text("utf-8")


def test_stubs_for_php_have_every_method(tmp_path: Path):
    stubs = generate("php", tmp_path, "protoc", "grpc_php_plugin")
    client = stubs / "SessionAuthority" / "V1" / "SessionAuthorityServiceClient.php"
    found = re.findall(r"public function (\w+)\(", client.read_text("utf-8"))
    assert found == ["__construct", *METHODS]


def test_messages_for_csharp_are_in_their_namespace(tmp_path: Path):
    """The half of the stubs for C# that needs no .NET."""
    script = """
mkdir -p stubs/csharp
protoc -I protos --csharp_out=stubs/csharp protos/session_authority/v1/*.proto
"""
    stubs = generate("csharp", tmp_path, "protoc", script=script)
    assert {path.name for path in stubs.iterdir()} == {"Errors.cs", "SessionAuthority.cs"}
    for path in stubs.iterdir():
        assert "namespace SessionAuthority.V1 {" in path.read_text("utf-8")


def test_the_plugins_of_the_page_are_those_of_make():
    pinned = dict(re.findall(r"^(PROTOC_GEN_\w+)_VERSION := (\S+)$", MAKEFILE, re.MULTILINE))
    said = re.findall(r"/(protoc-gen-[a-z-]+)@(\S+)", PAGE)
    assert {name.upper().replace("-", "_"): version for name, version in said} == pinned


# --- grpcurl --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with dev_server(tmp_path_factory.mktemp("dev") / "data") as server:
        yield server


def grpcurl(*names: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs blocks of the page, one after the other, in one shell."""
    if not list(ROOT.glob(".tools/bin/grpcurl-v*")):
        missing("grpcurl (`make grpcurl` builds it)")
    script = "\n".join(block for name in names for block in blocks(section(f"grpcurl {name}")))
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


def test_grpcurl_reads_the_contract_by_reflection(server: DevServer):
    done = grpcurl("reflection", ADDRESS=server.address)
    assert done.returncode == 0, done.stderr
    for method in METHODS:
        assert f"session_authority.v1.SessionAuthorityService.{method}\n" in done.stdout
    assert "string access_token = 1;" in done.stdout
    assert '"access_token": "ey' in done.stdout


def test_grpcurl_calls_with_the_proto_alone(server: DevServer):
    block = blocks(section("grpcurl proto"))[0]
    assert "-proto" in block, "with -proto, grpcurl needs no reflection"
    done = grpcurl("reflection", "proto", ADDRESS=server.address)
    assert done.returncode == 0, done.stderr
    assert '"status": "SESSION_STATUS_TOKEN_INVALID"' in done.stdout


def test_grpcurl_calls_over_mutual_tls(tmp_path: Path):
    authority = CA(tmp_path / "ca")
    own = authority.sign(addresses=["127.0.0.1"])
    login, stranger = (
        authority.sign(uris=[f"spiffe://example.org/{name}"]) for name in ("login", "stranger")
    )
    policy = tmp_path / "access.toml"
    policy.write_text(POLICY)
    settings = {
        "TLS_CERTIFICATE": str(own.certificate),
        "TLS_KEY": str(own.key),
        "TLS_CLIENT_CA": str(authority.file),
        "ACCESS_POLICY": str(policy),
    }
    names = {"SERVICE": "session_authority.v1.SessionAuthorityService"}
    names["CONTRACT"] = "session_authority/v1/session_authority.proto"
    names["PATH"] = f"{ROOT}/.tools/bin:{os.environ['PATH']}"
    with dev_server(tmp_path / "data", **settings) as server:
        for pair, code, said in ((login, 0, '"accessToken": "ey'), (stranger, 80, "")):
            done = grpcurl(
                "mtls",
                CA=str(authority.file),
                CERTIFICATE=str(pair.certificate),
                KEY=str(pair.key),
                TLS_ADDRESS=server.address,
                **names,
            )
            assert (done.returncode, said in done.stdout) == (code, True), done.stderr
        assert "Code: Unauthenticated" in done.stderr
