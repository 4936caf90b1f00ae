"""Logs are JSON for machines and words for people, and contain no secret and no personal data."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from session_authority.runtime import logs
from session_authority.v1 import session_authority_pb2 as pb
from tests.support.commands import COMMAND, PATIENCE, Caller, dev_server, environment

CANARIES = {
    "user": "canary-user",
    "address": "203.0.113.199",
    "agent": "canary-agent/1.0",
    "name": "canary-name",
    "version": "canary-version",
    "claim": "canary-claim",
    "reason": "canary-reason",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def test_lines_are_json_where_there_is_no_terminal():
    out = io.StringIO()
    logs.configure("info", out)
    structlog.get_logger().info("listening", address="127.0.0.1:1")
    structlog.get_logger().debug("not this")
    [line] = out.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "listening", "level": "info", "address": "127.0.0.1:1"}


def test_a_line_is_written_at_once():
    """Several processes share the stream. Lines that are written in two steps would be mixed up."""
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    logs.configure("info", Stream())
    structlog.get_logger().info("listening")
    structlog.get_logger().info("stopped")
    assert len(written) == 2
    assert all(text.endswith("\n") for text in written)


def test_lines_are_words_on_a_terminal():
    out = Terminal()
    logs.configure("warning", out)
    structlog.get_logger().error("not_serving", reason="the store does not answer")
    structlog.get_logger().info("not this")
    [line] = out.getvalue().splitlines()
    assert not line.startswith("{")
    assert "not_serving" in line
    assert "the store does not answer" in line


def test_a_fault_is_logged_without_its_text():
    def inner(secret: str) -> None:
        raise ValueError(secret)

    try:
        inner("hunter2")
    except ValueError as error:
        told: dict[str, Any] = logs.fault(error)
    assert told["error"] == "builtins.ValueError"
    assert [frame.rpartition(" ")[2] for frame in told["trace"]] == [
        "test_a_fault_is_logged_without_its_text",
        "inner",
    ]
    assert "hunter2" not in str(told)


def test_the_real_command_logs_words_on_a_terminal(tmp_path: Path):
    """No store answers there, so the command logs more than that it listens."""
    ours, theirs = pty.openpty()
    settings = environment(tmp_path, REDIS_URL="redis://127.0.0.1:1")
    command = [*COMMAND, "dev", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(
        command, env=settings, stdout=subprocess.DEVNULL, stderr=theirs, stdin=subprocess.DEVNULL
    )
    os.close(theirs)
    try:
        text = b""
        while b"listening" not in text:
            text += os.read(ours, 4096)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)
    assert b"not_serving" in text
    assert b'{"' not in text


def test_a_whole_session_leaves_no_secret_in_the_logs(tmp_path: Path):
    client = pb.ClientInfo(
        ip_address=CANARIES["address"], user_agent=CANARIES["agent"], display_name=CANARIES["name"],
        app_version=CANARIES["version"],
    )  # fmt: skip
    user = CANARIES["user"]
    secrets = set(CANARIES.values())
    with (
        dev_server(tmp_path / "data", LOG_LEVEL="debug") as server,
        Caller(server.address) as caller,
    ):
        stub = caller.stub
        phone, laptop = [
            caller.sign_in(
                user, client=client, claims={"email": CANARIES["claim"]}, auth_methods=["pwd"]
            )
            for _ in range(2)
        ]
        for issued in (phone, laptop):
            secrets |= {issued.access_token, issued.access_token.split(".")[2]}
            secrets |= {issued.device.device_id, issued.device.session_id}
        good = pb.ValidateSessionRequest(
            access_token=phone.access_token, device_id=phone.device.device_id, client=client
        )
        assert stub.ValidateSession(good, timeout=PATIENCE).active
        renew = pb.RenewSessionRequest(
            access_token=phone.access_token, device_id=phone.device.device_id, client=client
        )
        stub.RenewSession(renew, timeout=PATIENCE)
        stub.ListDevices(pb.ListDevicesRequest(user_id=user), timeout=PATIENCE)
        rename = pb.UpdateDeviceRequest(
            user_id=user, device_id=phone.device.device_id, display_name=CANARIES["name"]
        )
        stub.UpdateDevice(rename, timeout=PATIENCE)
        reason = CANARIES["reason"]
        revoke = pb.RevokeDeviceRequest(
            user_id=user, device_id=laptop.device.device_id, reason=reason
        )
        assert stub.RevokeDevice(revoke, timeout=PATIENCE).revoked
        good.device_id = laptop.device.device_id
        assert stub.ValidateSession(good, timeout=PATIENCE).status == pb.SESSION_STATUS_REPLAYED
        stub.RevokeAll(
            pb.RevokeAllRequest(user_id=user, reason=reason, forget=True), timeout=PATIENCE
        )
        # Refused calls leave none either.
        for bad in (
            pb.ListDevicesRequest(user_id=user + " "),
            pb.ListDevicesRequest(user_id=user, page_token=CANARIES["claim"]),
            pb.ListDevicesRequest(user_id=user, current_device_id=CANARIES["name"]),
        ):
            with pytest.raises(grpc.RpcError):
                stub.ListDevices(bad, timeout=PATIENCE)
        assert server.terminate() == 0
        assert server.events() == ["serving", "listening", "stopping", "stopped"]
        for secret in secrets:
            assert secret not in server.errors
            assert secret not in server.printed
