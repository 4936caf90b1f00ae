"""Checks the package: the files of its wheel, its requirements, and that it can share a process
with the service.
"""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import session_authority_client as sa
from session_authority.v1 import session_authority_pb2 as service_pb
from session_authority_client.wire import session_authority_pb2 as client_pb

ROOT = Path(__file__).parents[4]
PROJECT = ROOT / "clients" / "python"
PACKAGE = PROJECT / "session_authority_client"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    source = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(
        PROJECT, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (path,) = source.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile):
    ours = {path.relative_to(PROJECT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == ours
    assert {Path(name).suffix for name in ours} >= {".json", ".py", ".pyi", ".typed"}


def test_the_wheel_states_its_requirements_and_its_licence(wheel: zipfile.ZipFile):
    (info,) = (name.rpartition("/")[0] for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert (metadata["Name"], metadata["Requires-Python"]) == ("session-authority-client", ">=3.11")
    needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert needs == ["grpcio>=1.71.2", "protobuf>=5.29"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata.get_payload() == (PROJECT / "README.md").read_text()


def test_the_client_and_the_service_can_share_a_process():
    theirs, ours = service_pb.DESCRIPTOR, client_pb.DESCRIPTOR
    assert (theirs.package, ours.package) == (
        "session_authority.v1",
        "session_authority_client.wire",
    )
    assert theirs.pool is ours.pool, "the test needs both in one pool"
    request = service_pb.IssueDeviceRequest(user_id="ada", claims={"plan": "pro"})
    assert client_pb.IssueDeviceRequest.FromString(request.SerializeToString()).claims == {
        "plan": "pro"
    }


PUBLIC = sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__"})


def names_of(path: Path) -> set[str]:
    """The public names that a module defines. Imports count in the package itself only."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py":
            found |= {alias.asname or alias.name for alias in node.names}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_module_lists_its_public_names_in_all(name: str):
    module = importlib.import_module(f"{sa.__name__}.{name}")
    assert names_of(PACKAGE / f"{name}.py") <= set(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public)


def test_only_the_packages_devices_and_wire_are_public():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {room for room in rooms if not room.startswith("_")} == {"devices", "wire"}


def test_the_package_lists_its_documented_public_names_in_all():
    assert set(sa.__all__) == names_of(PACKAGE / "__init__.py")
    assert sa.__all__ == sorted(sa.__all__)
    for name in sa.__all__:
        assert getattr(sa, name).__doc__
