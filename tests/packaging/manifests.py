"""The plain manifests, and files for the Secrets that their pods mount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from session_authority.runtime.settings import PREFIX
from tests.processes.harness import add_signing_key
from tests.support.ca import CA
from tests.support.fork_server import ROOT

MANIFESTS = ROOT / "packaging" / "kubernetes"
Kinds = dict[str, dict[str, dict[str, Any]]]


def kinds(text: str) -> Kinds:
    """The objects of a manifest, by kind and name."""
    found: Kinds = {}
    for thing in yaml.safe_load_all(text):
        if thing is not None:
            found.setdefault(thing["kind"], {})[thing["metadata"]["name"]] = thing
    return found


def pods(manifest: Kinds) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod of each Deployment, by name."""
    for name, deployment in manifest["Deployment"].items():
        yield name, deployment["spec"]["template"]["spec"]


def variables(pod: dict[str, Any]) -> dict[str, str]:
    """The settings in the manifest for a pod's container."""
    [container] = pod["containers"]
    return {
        variable["name"].removeprefix(PREFIX): variable["value"]
        for variable in container["env"]
        if "value" in variable
    }


def entries_of_secrets(folder: Path, policy: str) -> dict[str, dict[str, bytes]]:
    """Good entries for each volume of the service. `folder` is for the files that they are made
    from.
    """
    ca = CA(folder / "ca")
    pair = ca.sign(hosts=["localhost"], addresses=["127.0.0.1"])
    add_signing_key(folder / "keys")
    named = policy + 'certificates = ["spiffe://example.org/login"]\n'
    return {
        "redis": {"url": b"of no use as a file"},
        "keys": {file.name: file.read_bytes() for file in (folder / "keys").iterdir()},
        "tls": {"tls.crt": pair.certificate.read_bytes(), "tls.key": pair.key.read_bytes()},
        "client-ca": {"ca.crt": ca.file.read_bytes()},
        "policy": {"access.toml": named.encode()},
        "caller-tokens": {"caller-tokens": b""},
    }
