"""The example of a gRPC server, run by the README's own commands. The README's own client calls it,
and so does an app on two devices.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from client_tests.readme import BLOCKS, GRPC_SECTION, PATIENCE, PROJECT, blocks, example
from session_authority_client.testing import FakeAuthority
from tests.support.ports import free_port
from tests.support.waiting import wait_for


@contextmanager
def served(folder: Path, authority: str) -> Iterator[str]:
    """Serves the example with the README's command, without the installation. Yields the
    address.
    """
    examples = folder / "clients" / "python" / "examples"
    examples.mkdir(parents=True)
    (examples / "grpc_app.py").write_text(example("grpc"), "utf-8")
    (shell,) = blocks(GRPC_SECTION, "sh")
    install, command = shell.splitlines()
    assert install == "pip install ./clients/python"
    address, log = f"127.0.0.1:{free_port()}", folder / "grpc.log"
    bin_folder = str(Path(sys.executable).parent)
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {command}"],
            cwd=folder,
            env={
                **os.environ,
                "PATH": os.pathsep.join((bin_folder, os.environ["PATH"])),
                "PYTHONPATH": str(PROJECT),
                "AUTHORITY": authority,
                "LISTEN": address,
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        with grpc.insecure_channel(address) as channel:
            try:
                grpc.channel_ready_future(channel).result(1)
            except grpc.FutureTimeoutError:
                return False
        return True

    try:
        wait_for(ready, "the example to serve", PATIENCE)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def app(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the example, which calls a development server."""
    with served(tmp_path_factory.mktemp("served"), address) as found:
        yield found


MISSING = object()


@dataclass
class Phone:
    """An app on a user's device, with the token and the device ID that the example gave it."""

    channel: grpc.Channel
    token: str = ""
    device_id: str = ""

    def call(self, name: str, message: object = MISSING, kind: str = "unary_unary") -> Any:
        method = getattr(self.channel, kind)(f"/example.v1.Account/{name}")
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        return method(
            json.dumps({} if message is MISSING else message).encode(),
            metadata=[*metadata, ("x-device-id", self.device_id)],
            timeout=PATIENCE,
        )

    def sign_in(self, user: str, **more: str) -> None:
        issued = json.loads(self.call("SignIn", {"user": user, **more}))
        self.token, self.device_id = issued["access_token"], issued["device_id"]

    def devices(self) -> list[Mapping[str, Any]]:
        return [json.loads(device) for device in self.call("MyDevices", kind="unary_stream")]

    def refusal(self, name: str = "MyDevices") -> tuple[grpc.StatusCode, str | None]:
        with pytest.raises(grpc.RpcError) as refused:
            list(self.call(name, kind="unary_stream"))
        return refused.value.code(), refused.value.details()


@pytest.fixture
def phone(app: str) -> Iterator[Phone]:
    with grpc.insecure_channel(app) as channel:
        yield Phone(channel)


OUT = (grpc.StatusCode.UNAUTHENTICATED, "sign_in_required")


def test_the_readmes_client_does_what_it_says(app: str):
    (code,) = [block.code for block in BLOCKS if block.mark == "calls grpc_app"]
    assert code.count('"127.0.0.1:8000"') == code.count("timeout=5") == 1
    code = code.replace("127.0.0.1:8000", app).replace("timeout=5", f"timeout={PATIENCE}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.endswith(" UTC True")


def test_my_devices(phone: Phone):
    user = f"<{uuid4()}>"
    laptop = Phone(phone.channel)
    assert laptop.refusal() == OUT
    for device in (laptop, phone):
        device.sign_in(user)
    seen = {device["device_id"]: device["current"] for device in laptop.devices()}
    assert seen == {laptop.device_id: True, phone.device_id: False}
    phone.call("SignOut", {"device_id": laptop.device_id})
    assert laptop.refusal() == OUT
    laptop.sign_in(user)  # the laptop is still the same device
    assert json.loads(phone.call("SignOutEverywhere")) == {"signed_out": 1}
    assert laptop.refusal() == OUT
    phone.call("SignOut")
    assert phone.refusal() == OUT


def test_a_device_id_that_is_not_text_is_refused(phone: Phone):
    phone.sign_in(f"<{uuid4()}>")
    others: list[Any] = [5, 0, False, [phone.device_id], {}]
    for device_id in others:
        with pytest.raises(grpc.RpcError) as refused:
            phone.call("SignOut", {"device_id": device_id})
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "device_id must be a text"
    assert phone.devices()


@pytest.mark.parametrize("data", [b"", b"null", b"7", b'"a"', b"\xff[", b"[" * 100_000])
def test_a_sign_in_that_is_no_json_object_is_refused(app: str, data: bytes):
    with grpc.insecure_channel(app) as channel:
        call: Any = channel.unary_unary("/example.v1.Account/SignIn")
        with pytest.raises(grpc.RpcError) as refused:
            call(data, timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "a request must be a JSON object"


def test_a_sign_in_that_is_sent_twice_makes_one_device(phone: Phone):
    user, request_id = f"<{uuid4()}>", str(uuid4())
    phone.sign_in(user, request_id=request_id)
    first = phone.device_id
    Phone(phone.channel).sign_in(user, request_id=request_id)
    assert [device["device_id"] for device in phone.devices()] == [first]
    with pytest.raises(grpc.RpcError) as refused:
        Phone(phone.channel).sign_in(user, request_id=request_id)  # the session has been used since
    assert refused.value.code() is grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({}, "user_id must not be empty"),
        ([1], "a request must be a JSON object"),
        (None, "a request must be a JSON object"),
        ("", "a request must be a JSON object"),
        ({"user": None}, "user_id must not be empty"),
        ({"user": "a" * 256}, "at most 255"),
        ({"user": "\ud800"}, "user_id must be text"),
        ({"user": 5}, "user must be a text"),
        ({"user": False}, "user must be a text"),
        ({"user": ["ada"]}, "user must be a text"),
        ({"user": "ada", "request_id": 7}, "request_id must be a text"),
        ({"user": "ada", "request_id": {}}, "request_id must be a text"),
        ({"user": "ada", "request_id": "nonsense"}, "request_id must be a UUID"),
    ],
)
def test_a_bad_sign_in_is_refused_with_the_reason(phone: Phone, message: object, problem: str):
    with pytest.raises(grpc.RpcError) as refused:
        phone.call("SignIn", message)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert problem in (refused.value.details() or "")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (None, "a request must be a JSON object"),
        ({"device_id": 5}, "device_id must be a text"),
        ({"device_id": "nonsense"}, "device_id must be a UUID"),
    ],
)
def test_a_bad_device_id_is_refused_with_the_reason(phone: Phone, message: object, problem: str):
    phone.sign_in(f"<{uuid4()}>")
    with pytest.raises(grpc.RpcError) as refused:
        phone.call("SignOut", message)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert problem in (refused.value.details() or "")
    assert len(phone.devices()) == 1, "it is still signed in"


def test_an_app_renews_its_token_itself(tmp_path: Path):
    with (
        FakeAuthority() as authority,
        served(tmp_path, authority.address) as app,
        grpc.insecure_channel(app) as channel,
    ):
        phone = Phone(channel)
        phone.sign_in("ada")
        authority.expire_tokens()
        assert phone.refusal() == (grpc.StatusCode.UNAUTHENTICATED, "token_expired")
        old, phone.token = phone.token, json.loads(phone.call("Renew"))["access_token"]
        assert phone.token != old
        assert [device["current"] for device in phone.devices()] == [True]
        with authority.unavailable():
            assert phone.refusal()[0] is grpc.StatusCode.UNAVAILABLE
        phone.call("SignOut")
        assert phone.refusal() == OUT
