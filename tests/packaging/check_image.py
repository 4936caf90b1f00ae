"""The image that `make image` built is small, contains no build tools, and serves without root.

The file's name keeps it out of `make test`: an image takes minutes to build.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from session_authority_client.testing import FakeAuthority
from tests.cli.harness import call
from tests.gateway.harness import browser_cookies
from tests.gateway.test_process import PATIENCE, config_for
from tests.packaging.manifests import MANIFESTS, entries_of_secrets, kinds, pods, variables
from tests.packaging.secret_volumes import SecretVolume
from tests.processes.harness import add_signing_key
from tests.relay.receiver import Receiver
from tests.support.backends import ValkeyServer, valkey_server
from tests.support.ca import CA
from tests.support.commands import Command, descendants
from tests.support.fork_server import ROOT
from tests.support.ports import free_port

IMAGE = "localhost/session-authority"
FOLDER = ROOT / ".tools" / "image"
BUILDAH = ("buildah", f"--root={FOLDER / 'storage'}", f"--runroot={FOLDER / 'run'}")
MAX_BYTES = 200_000_000
USER = 65532
FILES = "/etc/session-authority"
POLICY = '[callers.login]\nroles = ["issuer"]\ncertificates = ["spiffe://example.org/login"]\n'


def buildah(*arguments: str) -> str:
    """The output of a buildah command."""
    done = subprocess.run([*BUILDAH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(buildah("inspect", "--type=image", IMAGE))
    return described


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    name = buildah("from", "--pull-never", IMAGE)
    yield name
    buildah("rm", name)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey"), appendonly="yes") as server:
        yield server


def in_container(
    container: str, command: Sequence[str], folder: Path | None = None, **settings: str
) -> list[str]:
    """The command line that runs the command in the container. `folder` is mounted at FILES."""
    variables = [f"--env=SESSION_AUTHORITY_{name}={value}" for name, value in settings.items()]
    volumes = [] if folder is None else [f"--volume={folder}:{FILES}:ro"]
    return [*BUILDAH, "run", "--isolation=chroot", *volumes, *variables, container, "--", *command]


class Container(Command):
    """A command that runs in the container."""

    def _started(
        self, arguments: Sequence[str], folder: Path, _: dict[str, str], out: int, err: int
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(arguments, cwd=folder, stdout=out, stderr=err, process_group=0)

    def process_id(self) -> int:
        """The process ID of the command."""
        pids = sorted(descendants(self.process.pid))
        [*_, pid] = (pid for pid in pids if "session-authority" in command_line(pid)[:2][-1])
        return pid

    def terminate(self) -> int:
        """Sends SIGTERM to the process within, as an engine does. Returns the exit code of the
        container.
        """
        os.kill(self.process_id(), signal.SIGTERM)
        return self.wait()


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def user_of(pid: int) -> set[int]:
    """The real, effective, saved and file-system user of a process."""
    [line] = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("Uid:")
    ]
    return {int(number) for number in line.split()[1:]}


def hand_over(folder: Path) -> None:
    """Gives the files to the image's user, as an engine does with files that it mounts."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)


def test_the_image_is_small(image: dict[str, Any]):
    layers = json.loads(image["Manifest"])["layers"]
    assert sum(layer["size"] for layer in layers) < MAX_BYTES


def test_the_image_is_labelled_and_has_a_health_check(image: dict[str, Any]):
    config = image["Docker"]["config"]
    assert config["User"] == f"{USER}:{USER}"
    assert (config["Entrypoint"], config["Cmd"]) == (["session-authority"], ["serve"])
    assert config["Healthcheck"]["Test"] == ["CMD", "session-authority", "health", "--liveness"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    version = call("version").stdout.strip()
    assert (labels["version"], labels["licenses"]) == (version, "Apache-2.0")
    assert len(labels["revision"]) == 40


def test_the_image_has_no_build_tools_and_no_trace_of_package_sources(container: str):
    looked_for = "pip pip3 gcc cc make"
    found = f'for tool in {looked_for}; do command -v "$tool"; done; true'
    assert buildah(*in_container(container, ["sh", "-c", found])[len(BUILDAH) :]) == ""
    tree = Path(buildah("mount", container))
    pythons = [*tree.glob("usr/lib/python3*"), *tree.glob("usr/local/lib/python3*")]
    pythons += tree.glob("opt/session-authority/lib/python3*")
    assert len(pythons) >= 2
    names = ("pip", "ensurepip", "setuptools", "wheel")
    assert [path for python in pythons for name in names for path in python.rglob(name)] == []
    assert not (tree / "etc" / "pip.conf").exists()
    assert not (tree / "run" / "secrets" / "ca").exists()


def test_the_image_serves_and_is_not_root(
    container: str, image: dict[str, Any], valkey: ValkeyServer, tmp_path: Path
):
    files = tmp_path / "files"
    add_signing_key(files / "keys")
    (files / "access.toml").write_text(POLICY)
    ca = CA(files / "tls")
    pair = ca.sign(hosts=["localhost"], addresses=["127.0.0.1"])
    pair.key.chmod(0o600)
    hand_over(files)
    health = f"127.0.0.1:{free_port()}"
    settings = {
        "TRACING": "otlp",
        "LISTEN": f"127.0.0.1:{free_port()}",
        "HEALTH_LISTEN": health,
        "REDIS_URL": valkey.url,
        "KEYS": f"{FILES}/keys",
        "ACCESS_POLICY": f"{FILES}/access.toml",
        "TLS_CERTIFICATE": f"{FILES}/tls/{pair.certificate.name}",
        "TLS_KEY": f"{FILES}/tls/{pair.key.name}",
        "TLS_CLIENT_CA": f"{FILES}/tls/{ca.file.name}",
    }
    config = image["Docker"]["config"]
    command = [*config["Entrypoint"], *config["Cmd"]]
    server = Container(tmp_path / "run", in_container(container, command, files, **settings), {})
    try:
        server.wait_for_event("serving")
        assert user_of(server.process_id()) == {USER}
        check = in_container(container, config["Healthcheck"]["Test"][1:], HEALTH_LISTEN=health)[
            len(BUILDAH) :
        ]
        assert buildah(*check) == "SERVING"
        assert call("health", HEALTH_LISTEN=health).stdout == "SERVING\n"
        assert server.terminate() == 0
    finally:
        server.kill()


def test_the_image_serves_from_secrets_as_kubernetes_mounts_them(
    container: str, valkey: ValkeyServer, tmp_path: Path
):
    """With the settings of the plain manifest. Secrets belong to root and are readable for the
    group of the pod. An update replaces a link.
    """
    [(_, pod)] = pods(kinds((MANIFESTS / "minimal.yaml").read_text()))
    assert pod["securityContext"]["fsGroup"] == USER
    entries = entries_of_secrets(tmp_path / "made", POLICY.rpartition("certificates")[0])
    volumes = {}
    for volume in pod["volumes"]:
        name, mode = volume["name"], volume["secret"]["defaultMode"]
        volumes[name] = SecretVolume(tmp_path / "files" / name, mode, USER)
        volumes[name].write(entries[name])
    settings = {**variables(pod), "REDIS_URL": valkey.url}
    for listen in ("LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN"):
        settings[listen] = f"127.0.0.1:{free_port()}"
    command = in_container(
        container, ["session-authority", "serve"], tmp_path / "files", **settings
    )
    server = Container(tmp_path / "run", command, {})
    try:
        server.wait_for_event("serving")
        assert call("health", HEALTH_LISTEN=settings["HEALTH_LISTEN"]).stdout == "SERVING\n"
        more = tmp_path / "made" / "keys"
        add_signing_key(more)
        volumes["keys"].write({file.name: file.read_bytes() for file in more.iterdir()})
        server.wait_for_event("keys_changed")
        volumes["policy"].write({"access.toml": POLICY.encode() + b"# changed\n"})
        server.wait_for_event("access_changed")
        assert server.terminate() == 0
    finally:
        server.kill()


def test_the_image_runs_the_relay(container: str, valkey: ValkeyServer, tmp_path: Path):
    files = tmp_path / "files"
    files.mkdir()
    with Receiver().listening() as receiver:
        endpoints = files / "endpoints.toml"
        endpoints.touch(0o600)
        endpoints.write_text(receiver.toml())
        hand_over(files)
        settings = {"REDIS_URL": valkey.url, "RELAY_ENDPOINTS": f"{FILES}/{endpoints.name}"}
        command = ["session-authority", "relay"]
        relay = Container(tmp_path / "run", in_container(container, command, files, **settings), {})
        try:
            relay.wait_for_event("relaying")
            assert user_of(relay.process_id()) == {USER}
            assert relay.terminate() == 0
        finally:
            relay.kill()


def test_the_image_runs_the_gateway(container: str, tmp_path: Path):
    """With the page of devices, whose languages and time zones are data of packages."""
    files = tmp_path / "files"
    files.mkdir()
    with FakeAuthority() as fake:
        config = config_for(fake.address, f"/tmp/{tmp_path.name}.sock")
        (files / "gateway.toml").write_text(config)
        hand_over(files)
        settings = {"GATEWAY_CONFIG": f"{FILES}/gateway.toml"}
        command = ["session-authority", "gateway"]
        check = in_container(container, [*command, "--check"], files, **settings)[len(BUILDAH) :]
        assert buildah(*check) == "the file is good, and the service answers"
        started = in_container(container, command, files, **settings)
        gateway = Container(tmp_path / "run", started, {})
        try:
            url = f"http://{gateway.wait_for_event('listening')['http'][0]}"
            gateway.wait_for_event("ready")
            assert user_of(gateway.process_id()) == {USER}
            assert httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
            headers = {"Cookie": browser_cookies(fake), "Accept": "text/html"}
            for language, title in (("de-AT", "Ihre Geräte"), ("en-GB", "Your devices")):
                asked = {**headers, "Accept-Language": language}
                page = httpx.get(f"{url}/account/devices", headers=asked, timeout=PATIENCE)
                assert (page.status_code, title in page.text) == (200, True)
            assert gateway.terminate() == 0
        finally:
            gateway.kill()
