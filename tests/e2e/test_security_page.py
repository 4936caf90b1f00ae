"""docs/security.md: its commands are run unchanged, and its tables agree with the code."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import pytest

from session_authority.access import ROWS, Role, read_policy
from session_authority.cli import serve as cli_serve
from session_authority.domain import deadlines
from session_authority.domain.fair_share import HELD_PER_FREE, FairShare
from session_authority.processes import server
from session_authority.processes.grpc_server import server_options
from session_authority.processes.readiness import MAX_CLOCK_SKEW
from session_authority.rpc import Capacity, interceptors, peers, streams, unary
from session_authority.runtime import metrics_server
from session_authority.runtime.assurance_levels import PRESETS, Assurance
from session_authority.runtime.durations import parse_duration
from session_authority.runtime.settings import PREFIX, Acceptor, Settings, Unsafe
from session_authority.tokens import codec, token_memory
from tests.support.backends import missing
from tests.support.commands import environment
from tests.support.ports import free_port
from tests.support.shells import SHELLS, WHOLE, Pasted, blocks, require

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
_SECONDS = 240


def section(name: str) -> str:
    """The text between the marks of this name."""
    found = PAGE.partition(f"<!-- {name}: begin -->")[2].partition(f"<!-- {name}: end -->")[0]
    assert found
    return found


def table(name: str) -> list[list[str]]:
    """The cells of a table, without its title."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def titles(name: str) -> list[str]:
    """The titles of a table's columns."""
    first = next(line for line in section(name).splitlines() if line.startswith("|"))
    return [cell.strip().strip("`") for cell in first.strip("|").split("|")]


# A person who signs in to an example app.
VISITOR = """
from flask_app import app
browser = app.test_client()
browser.post("/sign-in", data={"user": "ada"})
page, devices = browser.get("/").text, browser.get("/devices").text
print("the app shows", devices.count("This device"), "device to", "ada" * ("Hello ada" in page))
"""
PORTS = ("PORT", "BEARER_PORT", "HEALTH_PORT", "REDIS_PORT")


def way_to_production() -> tuple[list[str], str]:
    """The shell lines of the way to production, block by block. The last block cleans up."""
    *way, end = blocks(section("production"))
    return way, end


@pytest.fixture
def tools() -> None:
    """The programs that the page says it needs."""
    for program in ("openssl", "redis-server"):
        if shutil.which(program) is None:
            missing(program)
    if not list(ROOT.glob(".tools/bin/grpcurl-v*")):
        missing("grpcurl (`make grpcurl` builds it)")


@contextmanager
def pasted(
    shell: str,
    text: str,
    folder: Path,
    *,
    variables: dict[str, str],
    checkout: Path = ROOT,
    strict: bool,
) -> Iterator[Pasted]:
    """Pastes the text into a shell. Every process that is left is killed at the end."""
    require(shell)
    temporary = folder / "tmp"
    temporary.mkdir()
    mine = {**environment(folder), "TMPDIR": str(temporary), **variables}
    del mine["PYTHONPATH"]  # For a person, the command of the checkout finds its modules itself.
    on_its_way = Pasted(shell, text, checkout, mine, folder / "shell", strict=strict)
    try:
        yield on_its_way
    finally:
        with suppress(ProcessLookupError):
            os.killpg(on_its_way.process.pid, signal.SIGKILL)


def own_ports() -> dict[str, str]:
    """Free ports for all processes that the guide starts."""
    return {name: str(free_port()) for name in PORTS}


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("shell", "acceptor"), list(zip(SHELLS, cycle(Acceptor), strict=False)), indirect=["acceptor"]
)
def test_the_way_to_production_works_as_the_page_says(shell: str, tmp_path: Path):
    way, end = way_to_production()
    kept, left = tmp_path / "kept", tmp_path / "left"
    client = ROOT / "clients" / "python"
    app = f"PYTHONPATH={client}:{client}/examples {sys.executable} -c '{VISITOR}'"
    lines = [*way, app, f'cp -r "$FOLDER" {kept}', end, f"(env; umask) > {left}"]
    before = checkout_files()
    with pasted(
        shell, "\n".join(lines), tmp_path, strict=True, variables=own_ports()
    ) as production:
        text = production.wait(_SECONDS)
    log = (kept / "serve.log").read_text()
    assert WHOLE in production.printed, text + log
    assert "WRONG" not in text
    assert re.search(r"^SERVING$", text, re.MULTILINE)
    assert '"newDevice": true' in text
    assert '"totalSize": 1' in text
    assert "the app shows 1 device to ada" in text
    assert "PermissionDenied" in text
    assert '"caller_not_allowed"' in log
    token = (kept / "account-page.token").read_text().strip()
    assert token not in text + log
    assert checkout_files() == before
    assert not list((tmp_path / "tmp").iterdir()), "it removes its folder"
    *variables, umask = left.read_text().splitlines()
    assert not [
        line
        for line in variables
        if line.startswith(("SESSION_AUTHORITY_", "TOKEN=", "AUTHORITY"))
        and not line.startswith(f"{PREFIX}ACCEPTOR=")  # The test's own.
    ]
    assert f"PATH={os.environ['PATH']}" in variables
    assert int(umask, 8) == os.umask(int(umask, 8))


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("name", PORTS)
def test_the_way_to_production_ends_where_a_port_is_in_use(name: str, tmp_path: Path):
    way, end = way_to_production()
    ports = own_ports()
    starts = next(number for number, block in enumerate(way) if block.startswith("start()"))
    with (
        socket.create_server(("127.0.0.1", int(ports[name]))),
        pasted(
            "bash", "\n".join([*way[: starts + 1], end]), tmp_path, strict=False, variables=ports
        ) as it,
    ):
        text = it.wait(_SECONDS)
    assert WHOLE in it.printed
    assert ports[name] in text
    assert re.search("the port is taken|listening on port", text), text
    assert not re.search(r"^SERVING$", text, re.MULTILINE)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("shell", SHELLS)
def test_no_key_is_written_to_the_checkout_if_its_folder_is_missing(shell: str, tmp_path: Path):
    """Each line is pasted all the same, as by a person who does not read errors."""
    way, end = way_to_production()
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    checkout.mkdir()
    programs.mkdir()
    for name in (".venv", ".tools", "protos"):
        (checkout / name).symlink_to(ROOT / name)
    for name in ("make", "mktemp"):
        (programs / name).write_text(f"#!/bin/sh\nexit {int(name == 'mktemp')}\n")
        (programs / name).chmod(0o755)
    there = {path.name for path in checkout.iterdir()}
    variables = own_ports() | {"PATH": f"{programs}:{os.environ['PATH']}"}
    text = "\n".join([*way, end])
    with pasted(shell, text, tmp_path, checkout=checkout, strict=False, variables=variables) as it:
        it.wait(_SECONDS)
    assert WHOLE in it.printed
    assert {path.name for path in checkout.iterdir()} == there
    assert not list((tmp_path / "tmp").iterdir())


def test_the_guide_does_not_use_the_ports_of_make_run():
    usual = {str(Settings.model_fields["listen"].default).rpartition(":")[2], "6379"}
    defaults = re.findall(r"PORT:-(\d+)", section("production"))
    assert len(set(defaults)) == len(PORTS)
    assert not usual & set(defaults)


def checkout_files() -> set[str]:
    """The names in the top folder of the checkout, without hidden names: `make` and the tests keep
    hidden files there.
    """
    return {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}


def test_the_policy_that_explains_the_format_is_valid(tmp_path: Path):
    [example] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "access.toml"
    path.write_text(example)
    assert read_policy(path).callers["gateway"].rpcs() == [
        "RenewSession", "ValidateSession", "BatchValidateSessions", "CheckSessions",
        "GetSigningKeys",
    ]  # fmt: skip


def test_roles_are_those_of_the_policy():
    _, *columns = titles("roles")
    assert columns == [role.value for role in Role]
    shown = {
        row[0].strip("`"): {role for role, cell in zip(Role, row[1:], strict=True) if cell == "yes"}
        for row in table("roles")
    }
    rows = {
        path.removeprefix("/session_authority.v1.SessionAuthorityService/").removeprefix(
            "/"
        ): row.roles
        for path, row in ROWS.items()
        if not row.public
    }
    assert shown == rows
    assert {path.split("/")[1] for path, row in ROWS.items() if row.public} == {
        "grpc.health.v1.Health"
    }


def test_levels_of_assurance_are_those_of_the_settings():
    _, *columns, _ = titles("assurance")
    shown = {
        Assurance(row[0].strip("`")): {
            name.lower(): parse_duration(cell) for name, cell in zip(columns, row[1:4], strict=True)
        }
        for row in table("assurance")
    }
    assert shown == PRESETS


def test_the_page_has_every_name_that_allow_unsafe_accepts():
    assert [row[0].strip("`") for row in table("unsafe")] == [unsafe.value for unsafe in Unsafe]
    grace = {row[0].strip("`"): row[1] for row in table("unsafe")}["short-grace"]
    assert f"({2 * MAX_CLOCK_SKEW.seconds} s)" in grace


def test_limits_are_those_of_the_code():
    options = dict(server_options(Capacity(), share_port=False))
    fields = Settings.model_fields

    def seconds(name: str) -> str:
        return f"{options[name] // 1000} s"

    longest = timedelta(seconds=unary._MAX_CALL_SECONDS)
    expected = {
        "calls under way": [
            f"{fields['max_in_flight'].default} (`MAX_IN_FLIGHT`)",
            f"{unary._BATCH_BYTES_PER_CALL // 1024} KiB",
            f"{HELD_PER_FREE} times what it leaves free",
            f"{FairShare(fields['max_in_flight'].default).most(sole=False)} of",
        ],
        "watches of events under way": [
            f"{fields['max_watchers'].default} (`MAX_WATCHERS`)",
            f"{FairShare(fields['max_watchers'].default).most(sole=False)} for one caller",
            f"{interceptors._WATCH_BYTES_PER_PLACE // 1024} KiB",
        ],
        "watches of health under way": [
            f"{streams.MAX_PUBLIC_STREAMS_PER_CONNECTION} on one connection",
            f"{fields['max_watchers'].default} (`MAX_WATCHERS`)",
        ],
        "the request of a call": [
            f"{unary.MAX_BODY_SECONDS:g} s",
            f"{unary._MAX_ARRIVING_PER_CALLER} of one caller",
        ],
        "calls and watches on one connection": [
            f"{fields['max_per_connection'].default} (`MAX_PER_CONNECTION`)"
        ],
        "connections of a port": [
            f"{fields['max_connections'].default} (`MAX_CONNECTIONS`)",
            f"{server.HEALTH_CONNECTIONS} of `HEALTH_LISTEN`",
            f"{metrics_server.MAX_CONNECTIONS} of `METRICS_LISTEN`",
        ],
        "answers that their peer does not read": [
            f"{peers.MAX_ANSWER_SECONDS:g} s each",
            f"{peers.MAX_UNSENT_ANSWERS} for longer",
        ],
        "calls that wait for the process": [
            f"{options['grpc.server.max_pending_requests']}",
            f"{options['grpc.server_max_unrequested_time_in_server']} s",
        ],
        "one request": [
            f"{unary.MAX_MESSAGE_BYTES // 1024} KiB",
            f"{unary.MAX_WATCH_BYTES // 1024**2} MiB",
            f"{unary.MAX_BATCH_BYTES // 1024**2} MiB",
        ],
        "metadata of a call": [f"{options['grpc.absolute_max_metadata_size'] // 1024} KiB"],
        "a TLS handshake": [seconds("grpc.server_handshake_timeout_ms")],
        "pings of a client": [seconds("grpc.http2.min_ping_interval_without_data_ms")],
        "a connection": [
            f"{options['grpc.max_connection_age_ms'] // 60_000} min",
            seconds("grpc.max_connection_age_grace_ms"),
        ],
        "one call": [f"{longest.seconds} s"],
        "a deadline with too little left": [f"{deadlines.MIN_SPARED_SECONDS * 1000:g} ms"],
        "the time that a call is given": [
            f"{100 - 100 // deadlines.SPARED_PARTS} % of",
            f"{deadlines.MIN_SPARED_SECONDS * 1000:g} to ",
            f" {deadlines.MAX_SPARED_SECONDS * 1000:g} ms",
        ],
        "a token": [f"{codec.MAX_TOKEN_BYTES // 1024} KiB"],
        "verified tokens that are remembered": [f"{token_memory.MEMORY_BYTES // 2**20} MiB"],
    }
    shown = {row[0]: row[1] for row in table("pressure")}
    assert shown.keys() == expected.keys()
    for what, limits in expected.items():
        for limit in limits:
            assert re.search(rf"(?<!\d){re.escape(limit)}", shown[what]), (
                f"{what}: {shown[what]} lacks {limit}"
            )
    assert f"after {options['grpc.http2.max_ping_strikes']} more" in section("pressure")


def test_links_to_the_page_lead_to_its_sections():
    anchors = {
        re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    for source in (
        PAGE,
        (ROOT / "README.md").read_text("utf-8"),
        (ROOT / "SECURITY.md").read_text("utf-8"),
    ):
        for page, anchor in re.findall(r"\]\(([^)#\s]*)#([a-z0-9-]+)\)", source):
            if (source is PAGE and not page) or page.endswith("docs/security.md"):
                assert anchor in anchors
    assert "docs/security.md" in (cli_serve.serve.__doc__ or "")
