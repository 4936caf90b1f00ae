"""The commands of a support desk: list a user's devices, sign the user out, and show the state of a
token. They call a real server, with the roles of a policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from session_authority import cli
from session_authority.cli.sessions import MEANINGS
from session_authority.v1 import session_authority_pb2 as pb
from tests.cli.harness import call, fault
from tests.support.commands import Caller, dev_server, run

POLICY = """
[callers.login]
roles = ["issuer", "validator"]
[callers.desk]
roles = ["manager"]
[callers.ops]
roles = ["operator"]
"""
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass
class Desk:
    """A server, the login service that calls it, and the files with the tokens of all callers."""

    address: str
    login: Caller
    files: dict[str, Path]

    def ask(self, caller: str, *arguments: object, given: str | None = None) -> Result:
        """Runs a command as the named caller. `given` is its standard input."""
        shown = ("--address", self.address, "--token-file", self.files[caller])
        command = [str(argument) for argument in (*arguments, *shown)]
        return CliRunner().invoke(cli.app, command, input=given, prog_name="session-authority")

    def sign_in(self, user: str, name: str = "") -> pb.IssueDeviceResponse:
        """Signs the user in on a new device."""
        client = pb.ClientInfo(ip_address="203.0.113.7", user_agent=AGENT, display_name=name)
        return self.login.sign_in(user, client=client, auth_methods=["pwd"], claims={"plan": "pro"})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    policy, tokens = folder / "access.toml", folder / "tokens"
    policy.write_text(POLICY)
    files = {}
    for name in ("login", "desk", "ops"):
        files[name] = folder / name
        files[name].write_text(call("callers", "add", name, "--tokens", tokens).stdout)
    settings = {"ACCESS_POLICY": str(policy), "CALLER_TOKENS": str(tokens)}
    with (
        dev_server(folder / "data", **settings) as server,
        Caller(server.address, files["login"].read_text().strip()) as login,
    ):
        yield Desk(server.address, login, files)


def test_devices_are_listed_as_a_table_and_as_json(desk: Desk):
    first, second = desk.sign_in("ada", "Ada's phone"), desk.sign_in("ada")
    listed = desk.ask("desk", "devices", "list", "ada")
    assert (listed.exit_code, listed.stderr) == (0, "")
    header, *rows = listed.stdout.splitlines()
    assert header.split() == "device ID name kind address signed in last seen ends".split()
    assert {row.split()[0] for row in rows} == {
        first.device.device_id, second.device.device_id,
    }  # fmt: skip
    [named] = [row for row in rows if row.startswith(first.device.device_id)]
    for word in ("Ada's phone", "desktop", "203.0.113.7"):
        assert word in named
    result = desk.ask("desk", "devices", "list", "ada", "--json")
    devices = [json.loads(line) for line in result.stdout.splitlines()]
    assert {device["device_id"] for device in devices} == {row.split()[0] for row in rows}
    assert {device["browser"] for device in devices} == {"Firefox 140"}
    assert all(device["signed_in"] for device in devices)


def test_a_list_of_several_pages_is_read_to_its_end(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("session_authority.console.support._PAGE_SIZE", 2)
    issued = {desk.sign_in("many").device.device_id for _ in range(5)}
    result = desk.ask("desk", "devices", "list", "many", "--json")
    assert {json.loads(line)["device_id"] for line in result.stdout.splitlines()} == issued


def test_markup_in_a_device_name_is_printed_literally(desk: Desk):
    desk.sign_in("eve", "[red]Eve[/red]")
    assert "[red]Eve[/red]" in desk.ask("desk", "devices", "list", "eve").stdout


def test_a_user_is_signed_out_on_one_device_or_on_all_but_one_or_on_all(desk: Desk, tmp_path: Path):
    devices = [desk.sign_in("ben") for _ in range(4)]
    ids = [device.device.device_id for device in devices]

    def states() -> list[str]:
        return [desk.login.status(device) for device in devices]

    def revoke(*arguments: str) -> Result:
        return desk.ask("desk", "devices", "revoke", "ben", *arguments, "--reason", "lost_phone")

    one = revoke(ids[0])
    assert (one.exit_code, one.stdout) == (0, "Signed out on 1 device.\n")
    assert states() == ["NO_SESSION", "ACTIVE", "ACTIVE", "ACTIVE"]
    again = revoke(ids[0])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "was not signed in there" in again.stderr
    rest = revoke("--all-but", ids[1], "--json")
    assert (rest.exit_code, json.loads(rest.stdout)) == (
        0,
        {"user_id": "ben", "revoked_devices": 2},
    )
    assert states() == ["NO_SESSION", "ACTIVE", "NO_SESSION", "NO_SESSION"]
    assert revoke("--all").exit_code == 0
    assert states() == ["NO_SESSION"] * 4
    assert "signed in nowhere" in desk.ask("desk", "devices", "list", "ben").stderr
    out = desk.ask("desk", "devices", "list", "ben", "--signed-out").stdout
    assert out.count("signed out") == 4
    shown = ("--address", desk.address, "--token-file", str(desk.files["ops"]))
    kind = ("--type", "device_revoked", "--user", "ben", "--since", "1h", "--count", "1")
    event = json.loads(run(tmp_path, "events", "tail", "--json", *kind, *shown).stdout)
    assert (event["reason"], event["actor"]) == ("lost_phone", "desk")


@pytest.mark.parametrize("which", [(), ("DEVICE", "--all"), ("--all", "--all-but", "DEVICE")])
def test_revoke_needs_exactly_one_choice_of_devices(desk: Desk, which: tuple[str, ...]):
    result = desk.ask("desk", "devices", "revoke", "cyd", *which, "--reason", "x")
    assert fault(result) == (2, "name one device, or give --all, or --all-but DEVICE")


def test_revoke_needs_a_reason(desk: Desk):
    result = desk.ask("desk", "devices", "revoke", "cyd", "--all")
    assert (result.exit_code, "--reason" in result.stderr) == (2, True)


def test_the_status_and_contents_of_a_token_are_shown(desk: Desk, tmp_path: Path):
    issued = desk.sign_in("dan")
    device = ("--device", issued.device.device_id)
    file = tmp_path / "token"
    file.write_text(issued.access_token + "\n")
    shown = desk.ask("ops", "sessions", "show", "--access-token", file, *device)
    assert (shown.exit_code, shown.stderr) == (0, "")
    for word in ("ACTIVE: the session is good", "dan", issued.device.device_id, "pwd", "pro"):
        assert word in shown.stdout
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["renewals", "0"] in rows
    piped = desk.ask("ops", "sessions", "show", "--json", *device, given=issued.access_token)
    worth = json.loads(piped.stdout)
    assert (piped.exit_code, worth["active"], worth["session"]["user_id"]) == (0, True, "dan")
    desk.ask("desk", "devices", "revoke", "dan", "--all", "--reason", "x")
    dead = desk.ask("ops", "sessions", "show", *device, given=issued.access_token)
    assert dead.exit_code == 1
    assert dead.stdout.startswith("status")
    assert "NO_SESSION" in dead.stdout
    for result in (shown, piped, dead):
        assert issued.access_token not in result.output


def test_showing_a_token_raises_no_alarm(desk: Desk):
    issued, other = desk.sign_in("fay"), desk.sign_in("fay")
    # presenting the token on this device would be a replay
    device = ("--device", other.device.device_id)
    assert desk.ask("ops", "sessions", "show", *device, given=issued.access_token).exit_code == 1
    assert desk.login.status(issued) == desk.login.status(other) == "ACTIVE"


@pytest.mark.parametrize("content", ["", "two words", "a\nb", "ä"])
def test_text_that_is_no_token_is_refused_and_not_printed(desk: Desk, content: str):
    result = desk.ask("ops", "sessions", "show", given=content)
    assert fault(result) == (2, "--access-token: must hold a token and nothing else")


def test_a_token_instead_of_its_file_name_is_not_printed(desk: Desk):
    token = desk.sign_in("gus").access_token
    result = desk.ask("ops", "sessions", "show", "--access-token", token)
    assert fault(result) == (2, "--access-token: there is no such file")
    as_argument = desk.ask("ops", "sessions", "show", token)
    assert as_argument.exit_code == 2
    assert token not in as_argument.output


def test_a_command_that_the_policy_does_not_allow_fails(desk: Desk):
    token = desk.sign_in("hal").access_token
    denied = [
        desk.ask("login", "devices", "list", "hal"),
        desk.ask("login", "devices", "revoke", "hal", "--all", "--reason", "x"),
        desk.ask("desk", "sessions", "show", given=token),
        # a validator may validate a token, but not with `observe_only`
        desk.ask("login", "sessions", "show", given=token),
    ]
    for result in denied:
        code, text = fault(result)
        assert (code, text.startswith(f"{desk.address}: PERMISSION_DENIED: ")) == (1, True)


def test_a_missing_server_is_reported_in_one_line():
    for arguments in (("devices", "list", "ada"), ("sessions", "show")):
        result = CliRunner().invoke(
            cli.app, [*arguments, "--address", "127.0.0.1:1"], input="a.b.c"
        )
        code, text = fault(result)
        assert (code, text) == (
            1,
            "127.0.0.1:1: UNAVAILABLE: nothing listens there: connection refused",
        )


def test_every_session_status_has_an_explanation():
    known = {name.removeprefix("SESSION_STATUS_") for name, n in pb.SessionStatus.items() if n}
    assert set(MEANINGS) == known
