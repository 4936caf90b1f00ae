"""The workflow of releases builds no image that can't be built again."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml  # type: ignore[import-untyped]

from tests.support.fork_server import ROOT

DIGEST = "0123456789abcdef" * 4


def check_of_the_base() -> str:
    """The command that checks the base image. It must come before the release is built."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yaml").read_text())
    steps = {step.get("name"): step for step in workflow["jobs"]["release"]["steps"]}
    name = "Check that the base of the image is named by digest"
    assert list(steps).index(name) < list(steps).index("Build the release")
    assert steps[name]["env"] == {"IMAGE_BASE": "${{ vars.IMAGE_BASE }}"}
    command: str = steps[name]["run"]
    return command


@pytest.mark.parametrize(
    ("base", "accepted"),
    [
        (f"registry.example.org/python@sha256:{DIGEST}", True),
        ("", False),
        ("python:3.13", False),
        ("python@sha256:", False),
        (f"python@sha256:{DIGEST[1:]}", False),
    ],
)
def test_a_base_without_a_digest_ends_the_release(base: str, accepted: bool):
    command = ["bash", "-e", "-c", check_of_the_base()]
    variables = {**os.environ, "IMAGE_BASE": base}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is accepted
    assert ("IMAGE_BASE" in done.stderr) is not accepted
