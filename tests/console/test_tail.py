"""`events tail`, as people and scripts use it: in a separate process, against a real server that
comes and goes.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from session_authority import cli
from session_authority.console.event_lines import EventTable, json_line
from session_authority.console.tail import EVENT_TYPES, question
from session_authority.runtime.addresses import Listen
from session_authority.runtime.text import printable
from session_authority.v1 import session_authority_pb2 as pb
from tests.support.commands import COMMAND, PATIENCE, Caller, Command, environment, run
from tests.support.dev import DevServer, dev_server, start_dev_server
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

HURRY = {
    "SESSION_AUTHORITY_GRACE": "0s",
    "SESSION_AUTHORITY_DURABLE_AFTER": "0s",
    "SESSION_AUTHORITY_ALARM_AFTER": "1s",
    "SESSION_AUTHORITY_TOKEN_TTL": "10s",
}
LAPTOP = pb.ClientInfo(
    ip_address="203.0.113.7",
    user_agent=(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/140.0.0.0 Safari/537.36"
    ),
)
WIDTHS = (15, 21, 36, 28, 64)  # column widths of a table that goes to a pipe or a file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with dev_server(tmp_path_factory.mktemp("dev") / "data", HURRY) as running:
        yield running


@pytest.fixture
def caller(server: DevServer) -> Iterator[Caller]:
    with Caller(server.address) as caller:
        yield caller


@contextmanager
def tailing(folder: Path, address: str, *arguments: str) -> Iterator[Command]:
    """Runs `events tail`. Without `--json`, waits until its watch has begun."""
    command = Command(folder, ["events", "tail", "--address", address, *arguments], {})
    try:
        # The header is printed when the server has said where the watch begins. JSON has no header.
        if "--json" not in arguments:
            wait_for(lambda: command.printed.startswith("time "), "the header", PATIENCE)
        yield command
    finally:
        command.kill()


def cells(row: str) -> list[str]:
    """Returns the cells of a row. Asserts that the columns are aligned, however long their contents
    are.
    """
    found, start = [], 0
    for width in WIDTHS:
        found.append(row[start : start + width].rstrip())
        assert row[start + width : start + width + 2] in ("  ", "")
        start += width + 2
    return [*found, row[start:]]


def rows(command: Command) -> list[list[str]]:
    """Returns the complete rows of the table, without its header."""
    return [cells(line) for line in command.printed.split("\n")[1:-1]]


def wait_for_rows(command: Command, count: int) -> list[list[str]]:
    wait_for(lambda: len(rows(command)) >= count, f"{count} rows", PATIENCE)
    return rows(command)


def buffering(folder: Path) -> dict[str, str]:
    """The environment of a command whose output Python buffers, unless the command flushes it."""
    return {**environment(folder), "PYTHONUNBUFFERED": ""}


def once(address: str, *arguments: str) -> list[dict[str, Any]]:
    """Returns the events that the command prints as JSON before it ends by itself."""
    done = run(ROOT, "events", "tail", "--json", "--address", address, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- the table ------------------------------------------------------------------------------------


def test_the_table_shows_the_whole_life_of_a_session(
    tmp_path: Path, server: DevServer, caller: Caller
):
    """The row of a replay has its cause and its effect. The row of a logout has its reason and the
    device that stays signed in.
    """
    with tailing(tmp_path, server.address, "--user", "life") as command:
        first = caller.sign_in("life", client=LAPTOP)
        second = caller.sign_in("life")
        caller.stub.RevokeDevice(
            pb.RevokeDeviceRequest(user_id="life", device_id=second.device.device_id, reason="lost")
        )
        thief = pb.ClientInfo(ip_address="192.0.2.66", user_agent="curl/8.7.1")
        stolen = pb.ValidateSessionRequest(
            access_token=first.access_token, device_id=second.device.device_id, client=thief
        )
        caller.stub.ValidateSession(stolen)
        kept = caller.sign_in("life", device_id=first.device.device_id)
        caller.stub.ValidateSession(
            pb.ValidateSessionRequest(
                access_token=first.access_token, device_id=first.device.device_id
            )
        )
        caller.sign_in("life")
        caller.stub.RevokeAll(
            pb.RevokeAllRequest(
                user_id="life", except_device_id=kept.device.device_id, reason="password_changed"
            )
        )
        found = wait_for_rows(command, 8)
        chrome = "Chrome 140 on Windows"
        actor = "by anonymous"
        assert [row[1:] for row in found] == [
            [
                "device_signed_in",
                "life",
                chrome,
                f"{chrome}, 203.0.113.7",
                f"first device; {actor}",
            ],
            ["device_signed_in", "life", "Unknown device", "-", f"new device; {actor}"],
            ["device_revoked", "life", "Unknown device", "-", f"lost; {actor}"],
            [
                "session_replayed",
                "life",
                chrome,
                "curl 8, 192.0.2.66",
                f"left device; revoke all; {actor}",
            ],
            ["device_signed_in", "life", chrome, "-", actor],
            ["ended_token_presented", "life", chrome, "-", actor],
            ["device_signed_in", "life", "Unknown device", "-", f"new device; {actor}"],
            [
                "all_revoked",
                "life",
                "-",
                "-",
                f"password_changed; all but {kept.device.device_id}; {actor}",
            ],
        ]
        for row in found:
            assert re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d", row[0])
        assert cells(command.printed.split("\n")[0]) == [
            "time",
            "type",
            "user",
            "device",
            "client",
            "details",
        ]
        assert command.terminate() == 0
        assert command.errors == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_without_an_error(
    tmp_path: Path, server: DevServer, number: signal.Signals
):
    with tailing(tmp_path, server.address) as command:
        for _ in range(3):  # as an impatient user does
            command.process.send_signal(number)
        assert command.wait() == 0
        assert command.errors == ""


def test_text_that_clients_chose_stays_in_its_column(
    tmp_path: Path, server: DevServer, caller: Caller
):
    user = "[red]" + "u" * 120 + ":x:"
    with tailing(tmp_path, server.address, "--user", user, "--user", "short") as command:
        caller.sign_in(
            user, client=pb.ClientInfo(display_name="名前" * 40, user_agent="[bold]" + "agent" * 90)
        )
        caller.sign_in(
            "short",
            client=pb.ClientInfo(display_name="[/bold][link=http://a]:smile:", ip_address="::1"),
        )
        wait_for(lambda: command.printed.count("\n") == 3, "two rows", PATIENCE)
        wide, second = command.printed.split("\n")[1:3]
        assert f"  {user[:35]}…  名前" in wide
        assert "  [bold]agentagentagentage  " in wide
        assert cells(second)[2:] == [
            "short",
            "[/bold][link=http://a]:smil…",
            "::1",
            "first device; by anonymous",
        ]
        assert wide.endswith("  first device; by anonymous")


def row_of(event: pb.Event, width: int | None = None) -> str:
    return EventTable(
        Console(width=width, force_terminal=width is not None, color_system="truecolor")
    ).row(event)


def test_no_text_that_controls_a_terminal_is_printed():
    hostile = "\x1b[2J\x07\r\n\t\x9b31m\u202eevil\u2028"
    assert printable(hostile) == r"\x1b[2J\x07\r\n\t\x9b31m\u202eevil\u2028"
    assert printable("सामी\u200dका 名前 👩\u200d💻") == "सामी\u200dका 名前 👩\u200d💻"
    wales = "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"
    assert printable(f"{wales} 名前") == f"{wales} 名前"
    info = pb.ClientInfo(user_agent=hostile, ip_address=hostile)
    client = pb.EventClient(info=info, browser=hostile, operating_system=hostile)
    device = pb.EventDevice(display_name=hostile, last_client=client)
    event = pb.Event(
        user_id=hostile, device=device, client=client, reason=hostile, actor=hostile, key_id=hostile
    )
    for row in (row_of(event), row_of(event, 160)):
        assert row.isprintable()
    assert json_line(event).isascii()
    assert json_line(event).isprintable()


def test_a_terminal_shows_alarms_in_colour():
    colours = {}
    for name in EVENT_TYPES:
        row = row_of(pb.Event(type=f"EVENT_TYPE_{name}", user_id="ada"), 160)
        colours[name] = re.match(r"(?:\x1b\[([\d;]+)m)?", row)[1]  # type: ignore[index]
    assert colours["SESSION_REPLAYED"] == "1;31"
    assert colours["ENDED_TOKEN_PRESENTED"] == "33"
    assert colours["DEVICE_REVOKED"] is None


@pytest.mark.parametrize("width", [1, 80, 120, 160, 400])
def test_a_terminal_of_any_width_gets_aligned_columns(width: int):
    table = EventTable(Console(width=width, force_terminal=True, no_color=True))
    plain = re.sub(
        r"\x1b\[[\d;]*m", "", table.row(pb.Event(user_id="u" * 99, key_id="k", reason="r" * 200))
    )
    start = sum(column + 2 for column in table._widths())
    assert plain[start - 2 :].startswith("  rrr")
    assert plain.endswith("; key k")


def test_an_unknown_event_type_is_shown_by_its_number():
    event = pb.Event.FromString(b"\x10\x63")
    assert cells(row_of(event))[1] == "99"
    assert json.loads(json_line(event)) == {"type": 99}


# --- JSON, filters, times -------------------------------------------------------------------------


def test_json_has_the_names_of_the_contract(server: DevServer, caller: Caller):
    signed_in = caller.sign_in("json", client=LAPTOP)
    [event] = once(server.address, "--since", "1h", "--user", "json", "--count", "1")
    assert event["type"] == "EVENT_TYPE_DEVICE_SIGNED_IN"
    assert (event["user_id"], event["new_device"], event["first_device"]) == ("json", True, True)
    assert event["device"]["device_id"] == signed_in.device.device_id
    assert event["client"]["info"]["ip_address"] == "203.0.113.7"
    assert event["event_id"]
    assert datetime.fromisoformat(event["create_time"]).tzinfo is UTC


def test_json_is_written_line_by_line(tmp_path: Path, server: DevServer, caller: Caller):
    """A reader of a pipe gets each event when it happens, and not only when a buffer is full."""
    command = [
        *COMMAND,
        "events",
        "tail",
        "--json",
        "--since",
        "1h",
        "--user",
        "lines",
        "--address",
        server.address,
    ]
    with subprocess.Popen(
        command, env=buffering(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            caller.sign_in("lines")
            wait_for(lambda: unread(process.stdout) > 0, "the event", PATIENCE)
            assert json.loads(process.stdout.readline())["user_id"] == "lines"
        process.terminate()
        assert process.wait(PATIENCE) == 0


def unread(pipe: Any) -> int:
    """Returns the number of unread bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_events_are_filtered_by_user_and_type(server: DevServer, caller: Caller):
    for user_id in ("f1", "f2", "f3"):
        caller.sign_in(user_id)
        caller.stub.RevokeAll(pb.RevokeAllRequest(user_id=user_id))
    users = ["--user", "f1", "--user", "f3"]
    found = once(server.address, "--since", "1h", *users, "--type", "all_revoked", "--count", "2")
    assert {(event["type"], event["user_id"]) for event in found} == {
        ("EVENT_TYPE_ALL_REVOKED", "f1"), ("EVENT_TYPE_ALL_REVOKED", "f3"),
    }  # fmt: skip
    both = ["--type", "Device_Signed_In", "--type", "EVENT_TYPE_ALL_REVOKED"]
    assert len(once(server.address, "--since", "1h", "--user", "f2", *both, "--count", "2")) == 2


def test_since_accepts_a_time_and_a_duration(server: DevServer, caller: Caller):
    caller.sign_in("since")
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    assert once(server.address, "--since", an_hour_ago, "--user", "since", "--count", "1")
    assert once(server.address, "--since", "PT1H", "--user", "since", "--count", "1")


def test_since_sets_the_start_time_of_the_watch():
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def start(since: str) -> datetime:
        return question((), (), since, now).start_time.ToDatetime(UTC)

    assert start("15m") == datetime(2026, 11, 24, 11, 45, tzinfo=UTC)
    assert start("7d") == datetime(2026, 11, 17, 12, tzinfo=UTC)
    assert start("2026-11-24T09:30:00Z") == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    assert start("2026-11-24T09:30:00.5+02:00") == datetime(
        2026, 11, 24, 7, 30, 0, 500_000, tzinfo=UTC
    )
    assert start("90000d") == datetime(1970, 1, 1, tzinfo=UTC)
    assert not question((), (), None, now).HasField("start_time")


@pytest.mark.parametrize(
    "since",
    [
        "",
        "soon",
        "15",
        "-5m",
        "2026-11-24",
        "2026-11-24T09:30:00",
        "2026-13-01T00:00:00Z",
        "9" * 400 + "d",
        "Z",
    ],
)
def test_a_since_that_is_no_time_is_refused(since: str):
    with pytest.raises(ValueError, match=r"^--since: must be"):
        question((), (), since, datetime.now(UTC))


def test_the_help_explains_the_options():
    result = CliRunner().invoke(cli.app, ["events", "tail", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for word in (
        "--address",
        "--json",
        "--user",
        "--type",
        "--since",
        "--count",
        "restart",
        "15m",
    ):
        assert word in result.stdout


# --- its documentation ----------------------------------------------------------------------------


def test_the_events_page_has_every_event_type():
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert set(EVENT_TYPES) <= set(rows)


def test_the_commands_of_the_events_page_show_the_demo(tmp_path: Path, server: DevServer):
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    lines = ("make run", "session-authority events tail", "session-authority demo")
    assert "\n\n".join(f"```sh\n{line}\n```" for line in lines) in page
    with tailing(tmp_path, server.address) as command:
        assert run(tmp_path, "demo", "--address", server.address).returncode == 0
        found = [row[1] for row in wait_for_rows(command, 6) if row[2].startswith("demo-")]
        assert found == [
            "device_signed_in", "device_signed_in", "session_replayed", "device_signed_in",
            "ended_token_presented", "all_revoked",
        ]  # fmt: skip


# --- faults ---------------------------------------------------------------------------------------


def fault(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    done = run(tmp_path, "events", "tail", *arguments)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return done.returncode, line.removeprefix("session-authority: ")


def test_wrong_usage_is_reported_in_one_line(tmp_path: Path):
    nowhere = ("--address", f"127.0.0.1:{free_port()}")
    known = ", ".join(EVENT_TYPES).lower()
    assert fault(tmp_path, *nowhere, "--type", "fly") == (
        2,
        f"--type: there is no 'fly'; there are {known}",
    )
    code, text = fault(tmp_path, *nowhere, "--since", "soon")
    assert (code, text.startswith("--since: must be a duration like 15m")) == (2, True)
    assert fault(tmp_path, "--address", "50051")[0] == 2


def test_a_missing_server_is_reported_in_one_line(tmp_path: Path):
    address = f"127.0.0.1:{free_port()}"
    code, text = fault(tmp_path, "--address", address)
    assert (code, text.startswith(f"{address}: no answer")) == (1, True)


def test_a_request_that_the_server_refuses_is_reported_in_one_line(
    tmp_path: Path, server: DevServer
):
    code, text = fault(tmp_path, "--address", server.address, "--user", "a ")
    assert (code, text.startswith(f"{server.address}: INVALID_ARGUMENT: user_ids[0]: must")) == (
        1,
        True,
    )


def shell(tmp_path: Path, server: DevServer, rest: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a shell's pipeline, which fails if any part of it fails."""
    script = f'"$@" events tail --address {server.address} {rest}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *COMMAND],
        env=buffering(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    "rest",
    ["| head -n 1", "2>&1 | head -n 1", "--since 1h | head -n 1", "--since 1h --json | head -c 1"],
)
def test_a_reader_that_closes_the_pipe_ends_the_command(
    tmp_path: Path, server: DevServer, caller: Caller, rest: str
):
    """The command ends even if no further event happens."""
    caller.sign_in("head")
    done = shell(tmp_path, server, rest)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout[:1] in ("t", "{")


def test_a_reader_that_closes_a_full_pipe_ends_the_command(
    tmp_path: Path, server: DevServer, caller: Caller
):
    for number in range(100):
        caller.sign_in(f"many{number}", client=pb.ClientInfo(user_agent="x" * 500))
    arguments = ["events", "tail", "--json", "--since", "1h", "--address", server.address]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, *arguments], env=buffering(tmp_path), stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # A pipe holds 64 KiB, minus the unused ends of its pages.
        wait_for(lambda: unread(process.stdout) > 40 * 1024, "the pipe to be almost full", PATIENCE)
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path, server: DevServer):
    done = shell(tmp_path, server, "> /dev/full")
    assert (done.returncode, done.stderr) == (
        1,
        "session-authority: can't write: No space left on device\n",
    )


def test_letters_that_the_locale_lacks_are_escaped(
    tmp_path: Path, server: DevServer, caller: Caller
):
    caller.sign_in("locale", client=pb.ClientInfo(display_name="名前"))
    rest = "--since 1h --user locale --count 1"
    done = subprocess.run(
        [*COMMAND, "events", "tail", "--address", server.address, *rest.split()],
        env={**buffering(tmp_path), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u540d\u524d" in done.stdout


# --- servers that come and go ---------------------------------------------------------------------


def stop(server: DevServer) -> None:
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(PATIENCE)


def test_a_restart_of_the_server_loses_no_event(tmp_path: Path):
    data = tmp_path / "data"
    with dev_server(data) as first:
        port = Listen.parse(first.address).port
        with tailing(tmp_path / "tail", first.address) as command:
            with Caller(first.address) as caller:
                caller.sign_in("before")
            wait_for_rows(command, 1)
            stop(first)
            wait_for(lambda: "is away" in command.errors, "the command to notice", PATIENCE)
            second = start_dev_server(data, port=port)
            try:
                with Caller(second.address) as caller:
                    caller.sign_in("after")
                assert [row[2] for row in wait_for_rows(command, 2)] == ["before", "after"]
                assert [line.partition(": is ")[2] for line in command.errors.splitlines()] == [
                    "away (UNAVAILABLE); going on where this watch was as soon as it is back",
                    "back",
                ]
                assert command.terminate() == 0
            finally:
                stop(second)


def test_a_lost_history_is_reported_once(tmp_path: Path):
    data = tmp_path / "data"
    with dev_server(data) as first:
        port = Listen.parse(first.address).port
        with tailing(tmp_path / "tail", first.address) as command:
            with Caller(first.address) as caller:
                caller.sign_in("before")
            wait_for_rows(command, 1)
            stop(first)
            wait_for(lambda: "is away" in command.errors, "the command to notice", PATIENCE)
            shutil.rmtree(data)
            second = start_dev_server(data, port=port)
            try:
                wait_for(lambda: ": is back\n" in command.errors, "the command to go on", PATIENCE)
                assert command.errors.count("events may have been missed") == 1
                with Caller(second.address) as caller:
                    caller.sign_in("after")
                assert [row[2] for row in wait_for_rows(command, 2)] == ["before", "after"]
            finally:
                stop(second)
