"""The examples of docs/, run unchanged with a real server, a real relay and a real SMTP server."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from session_authority.relay.endpoints import new_secret
from session_authority.v1 import session_authority_pb2 as pb
from tests.support.backends import valkey_server
from tests.support.commands import Caller, Command, environment, run
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for

EXAMPLES = ROOT / "docs" / "examples"
LINK = re.compile(r"https://www\.example\.org/devices\?alarm=evt_\w+")
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36"
)
PATIENCE = 40.0


class Postman:
    """An SMTP server that keeps the mails that it receives."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.port = free_port()

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("gone"):
            return "550 there is nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"

    def to(self, user: str) -> list[Message]:
        """The mails to a user. A mail that came twice counts once, by its ID."""
        return list(
            {m["Message-ID"]: m for m in self.mails if m["To"] == f"{user}@example.org"}.values()
        )

    @contextmanager
    def open(self) -> Iterator[Postman]:
        """Accepts mails inside the block."""
        controller = Controller(self, hostname="127.0.0.1", port=self.port)
        controller.start()
        try:
            yield self
        finally:
            controller.stop()


@pytest.fixture
def postman() -> Iterator[Postman]:
    with Postman().open() as postman:
        yield postman


def as_written(name: str, settings: dict[str, str]) -> str:
    """The commands in an example's docstring, with the values of a test."""
    code = (EXAMPLES / name).read_text()
    lines = [line.strip() for line in code.split('"""')[1].splitlines() if line[:4] == "    "]
    install, *exports, start = lines
    assert install.startswith("pip install ")
    assert start == f"python docs/examples/{name}"
    shown = set(re.findall(r"(\w+)=", " ".join(exports)))
    assert shown >= settings.keys() - {"CURSOR"}
    mine = [f"export {variable}={shlex.quote(value)}" for variable, value in settings.items()]
    kept = [line for line in exports if "relay secret" not in line]
    return "\n".join([*kept, *mine, f"exec {sys.executable} {EXAMPLES / name}"])


@contextmanager
def example(name: str, folder: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running example."""
    # The example finds the client and the packages that it names, and not the service.
    path = {"PYTHONPATH": str(ROOT / "clients" / "python")}
    with (folder / f"{name}.txt").open("ab") as out:
        process = subprocess.Popen(
            ["bash", "-euc", as_written(name, settings)],
            cwd=folder,
            env=environment(folder) | path,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Caller, str, Path]]:
    """A client of a running server, the URL of the server's Redis, and a folder."""
    with valkey_server(tmp_path / "valkey") as valkey:
        url = valkey.url
        address = f"127.0.0.1:{free_port()}"
        server = Command(
            tmp_path / "server",
            ["dev", "--listen", address, "--data-dir", str(tmp_path / "data")],
            {"REDIS_URL": url},
        )
        try:
            server.wait_for_event("listening")
            with Caller(address) as caller:
                yield caller, url, tmp_path
        finally:
            server.kill()


def sign_in(caller: Caller, user: str) -> pb.IssueDeviceResponse:
    client = pb.ClientInfo(ip_address="203.0.113.7", user_agent=AGENT)
    return caller.sign_in(user, client=client)


def test_the_watcher_mails_about_new_devices_and_loses_none_when_killed(
    served: tuple[Caller, str, Path], postman: Postman
):
    caller, _, folder = served
    settings = {"AUTHORITY": caller.address, "SMTP": f"127.0.0.1:{postman.port}"}
    cursor = folder / "sign_in_mails.cursor"
    with example("sign_in_mails.py", folder, **settings):
        wait_for(cursor.exists, "it to watch", PATIENCE)
        first = sign_in(caller, "ada")  # The first device: there is nobody to warn.
        sign_in(caller, "ada")
        wait_for(lambda: len(postman.to("ada")) == 1, "the mail", PATIENCE)
    sign_in(caller, "ada")  # While the example does not run.
    caller.sign_in("ada", device_id=first.device.device_id)  # Not a new device.
    with example("sign_in_mails.py", folder, **settings):
        sign_in(caller, "ben")
        sign_in(caller, "ben")
        wait_for(lambda: len(postman.to("ben")) == 1, "the mail after that", PATIENCE)
        wait_for(
            lambda: len(postman.to("ada")) == 2, "the mail about what happened in between", PATIENCE
        )
    mail = postman.to("ada")[0]
    assert mail["Subject"] == "A new sign-in"
    text = mail.get_payload()
    assert isinstance(text, str)
    assert text.startswith("Chrome 140 on Windows, at 203.0.113.7, ")
    assert LINK.fullmatch(text.splitlines()[-1])
    assert "sign the device out" in " ".join(text.split())


def test_the_watcher_waits_for_a_mail_server_that_is_unreachable(
    served: tuple[Caller, str, Path], postman: Postman
):
    caller, _, folder = served
    away = Postman()
    settings = {"AUTHORITY": caller.address, "SMTP": f"127.0.0.1:{away.port}"}
    with example("sign_in_mails.py", folder, **settings):
        wait_for((folder / "sign_in_mails.cursor").exists, "it to watch", PATIENCE)
        sign_in(caller, "ada")
        sign_in(caller, "ada")
        told = folder / "sign_in_mails.py.txt"
        wait_for(lambda: "no mail can be sent" in told.read_text(), "it to say so", PATIENCE)
        with away.open():
            wait_for(lambda: len(away.to("ada")) == 1, "the mail after all", PATIENCE)


def test_a_mail_that_can_never_be_sent_delays_no_other(
    served: tuple[Caller, str, Path], postman: Postman
):
    """Such a mail goes to an address that does not exist, or to a user ID that looks like two
    addresses, or to a user ID with letters that mail servers refuse.
    """
    caller, _, folder = served
    settings = {"AUTHORITY": caller.address, "SMTP": f"127.0.0.1:{postman.port}"}
    with example("sign_in_mails.py", folder, **settings):
        wait_for((folder / "sign_in_mails.cursor").exists, "it to watch", PATIENCE)
        for user in ("gone", "eve@example.org,mallory@example.org", "名前", "@", "ada@example.org"):
            sign_in(caller, user)
            sign_in(caller, user)
        wait_for(lambda: len(postman.to("ada")) == 1, "the last mail", PATIENCE)
    assert not postman.to("mallory")
    assert not postman.to("eve")


def test_the_webhook_receiver_mails_what_the_relay_delivers(
    served: tuple[Caller, str, Path], postman: Postman
):
    caller, url, folder = served
    secret, port = new_secret(), free_port()
    endpoints = folder / "endpoints.toml"
    endpoints.touch(0o600)
    endpoints.write_text(
        f'[[endpoint]]\nname = "mailer"\nurl = "http://127.0.0.1:{port}/"\nsecrets = ["{secret}"]\n'
        'types = ["DEVICE_SIGNED_IN"]\n'
    )
    relay = Command(folder / "relay", ["relay", "--endpoints", str(endpoints)], {"REDIS_URL": url})
    try:
        settings = {
            "SECRET": secret,
            "LISTEN": f"127.0.0.1:{port}",
            "SMTP": f"127.0.0.1:{postman.port}",
        }
        with example("webhook_mails.py", folder, **settings):
            wait_for(lambda: _answers(port), "the receiver to listen", PATIENCE)
            relay.wait_for_event("relaying")
            status = ["relay", "status", "--endpoints", str(endpoints)]
            wait_for(
                lambda: "64/64" in _printed(folder, status, url),
                "the relay to have begun",
                PATIENCE,
            )
            sign_in(caller, "ada")
            sign_in(caller, "ada")
            wait_for(lambda: len(postman.to("ada")) == 1, "the mail", PATIENCE)
            [mail] = postman.to("ada")
            told = str(mail.get_payload())
            assert told.startswith("Chrome 140 on Windows, at 203.0.113.7, ")
            assert LINK.fullmatch(told.splitlines()[-1])
            forged = Webhook(new_secret()), Webhook(secret)
            assert [_post(port, webhook) for webhook in forged] == [400, 204]
            assert _post(port, Webhook(secret)) == 204
            assert len([m for m in postman.mails if m["To"] == "eve@example.org"]) == 1, (
                "a repeat is one mail"
            )
    finally:
        relay.kill()


def _printed(folder: Path, arguments: list[str], url: str) -> str:
    return run(folder, *arguments, REDIS_URL=url).stdout


def _answers(port: int) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    return True


def _post(port: int, webhook: Webhook) -> int:
    now = datetime.now(UTC)
    body = (
        '{"specversion":"1.0","id":"evt_1","subject":"eve","time":"2026-01-01T00:00:00Z","data":'
        '{"type":"EVENT_TYPE_DEVICE_SIGNED_IN","new_device":true,"device":{"display_name":"x"}}}'
    )
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": webhook.sign("evt_1", now, body),
    }
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/", body, headers)
    return connection.getresponse().status


def test_the_mail_about_a_stolen_token_says_what_to_do(
    served: tuple[Caller, str, Path], postman: Postman
):
    caller, _, folder = served
    settings = {"AUTHORITY": caller.address, "SMTP": f"127.0.0.1:{postman.port}"}
    with example("sign_in_mails.py", folder, **settings):
        wait_for((folder / "sign_in_mails.cursor").exists, "it to watch", PATIENCE)
        first, second = sign_in(caller, "ada"), sign_in(caller, "ada")
        request = pb.ValidateSessionRequest(
            access_token=first.access_token, device_id=second.device.device_id
        )
        caller.stub.ValidateSession(request, timeout=PATIENCE)
        wait_for(lambda: len(postman.to("ada")) == 2, "both mails", PATIENCE)
    mails = {mail["Subject"]: str(mail.get_payload()) for mail in postman.to("ada")}
    assert set(mails) == {"A new sign-in", "A copy of your sign-in was used"}
    assert all("hange your password" in " ".join(text.split()) for text in mails.values())


def test_both_examples_send_the_same_text():
    part = re.compile(r"# begin: what both say\n(.*?)# end: what both say", re.DOTALL)
    said = [part.findall(path.read_text()) for path in sorted(EXAMPLES.glob("*_mails.py"))]
    assert len(said) == 2
    assert said[0] == said[1]
    assert len(said[0]) == 1


def test_a_link_of_a_mail_does_nothing_by_itself():
    """The link names a page and the event: no ID of a user or a device, and no token."""
    for path in EXAMPLES.glob("*_mails.py"):
        code = path.read_text()
        assert re.findall(r'MY_DEVICES", "(.*)"\)', code) == ["https://www.example.org/devices"]
        assert code.count("{MY_DEVICES}?alarm={event_id}\\n") == 1


def test_the_twenty_lines_of_the_docs_are_those_that_run():
    code = (EXAMPLES / "sign_in_mails.py").read_text()
    [shown] = re.findall(r"# begin: twenty lines\n(.*?)# end: twenty lines", code, re.DOTALL)
    shown = shown.rstrip()
    assert f"```python\n{shown}\n```" in (ROOT / "docs" / "events.md").read_text()
    assert len([line for line in shown.splitlines() if line.strip() and '"""' not in line]) <= 20
