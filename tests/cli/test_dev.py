"""`dev` refuses addresses that other machines can reach, and `health` and `demo` call a running
server.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import call, fault
from tests.support.commands import Caller, dev_server, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:50051", "[::]:0", "192.0.2.1:50051", "host.example:50051"]
)
def test_dev_refuses_addresses_that_other_machines_can_reach(tmp_path: Path, listen: str):
    other = f"{listen.rpartition(':')[0]}:1"
    result = call(
        "dev", "--listen", listen, "--data-dir", str(tmp_path / "data"), HEALTH_LISTEN=other
    )
    rule = (
        "can be reached from elsewhere; `dev` listens on loopback (127.0.0.1, ::1, localhost) only,"
        " `serve` is for the rest"
    )
    assert result.stderr.splitlines() == [
        f"session-authority: SESSION_AUTHORITY_LISTEN: {listen} {rule}",
        f"session-authority: SESSION_AUTHORITY_HEALTH_LISTEN: {other} {rule}",
    ]
    assert result.exit_code == 2
    assert not (tmp_path / "data").exists()


def test_dev_refuses_metrics_that_other_machines_can_reach(tmp_path: Path):
    code, text = fault(call("dev", "--data-dir", str(tmp_path), METRICS_LISTEN="0.0.0.0:9464"))
    assert code == 2
    assert text.startswith("SESSION_AUTHORITY_METRICS_LISTEN: 0.0.0.0:9464 can be reached")


def test_a_file_instead_of_the_key_folder_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "keys").write_text("")
    code, _ = fault(call("dev", "--data-dir", str(tmp_path), REDIS_URL="redis://127.0.0.1:1"))
    assert code == 2


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h:port",
        "redis://:hunter2@h/zero",
        "redis://:hunter2@h?ssl=1",
        "redis://:hunter2@",
        "redis://:hunter2@h1,h2",
        "redis+sentinel://:hunter2@h1,h2",
        "redis+cluster://:hunter2@h/1",
        "unix://:hunter2@h/path",
        "postgres://:hunter2@h",
        "hunter2",
        "redis://:hunter2[@h",
    ],
)
def test_a_wrong_store_url_is_refused_without_its_password(tmp_path: Path, url: str):
    code, text = fault(call("dev", "--data-dir", str(tmp_path), REDIS_URL=url))
    assert code == 2
    assert text.startswith("SESSION_AUTHORITY_REDIS_URL: ")
    assert "hunter2" not in text


def test_a_file_instead_of_the_data_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    code, text = fault(call("dev", "--data-dir", str(tmp_path / "file")))
    assert (code, text) == (2, f"--data-dir: can't make {tmp_path / 'file'}: File exists")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dev") / "data"


@pytest.fixture(scope="module")
def address(data_dir: Path) -> Iterator[str]:
    """The address of a dev server with short intervals."""
    with dev_server(
        data_dir, GRACE="1s", DURABLE_AFTER="1s", ALARM_AFTER="2s", TOKEN_TTL="10s"
    ) as server:
        wait_for(lambda: "Ctrl-C stops it." in server.printed, "the server to greet")
        assert server.printed.count("grpcurl -plaintext") == 4
        assert f"session-authority demo --address {server.address}" in server.printed
        told = "A superseded token is good for 1 s (GRACE), and raises the alarm after 2 s"
        assert told in server.printed
        assert str(data_dir) in server.printed
        yield server.address
        assert server.terminate() == 0, server.errors


def test_health_of_a_running_server_is_serving(address: str):
    result = call("health", "--address", address)
    assert (result.exit_code, result.stdout) == (0, "SERVING\n")
    port = address.rpartition(":")[2]
    assert call("health", LISTEN=f"0.0.0.0:{port}").exit_code == 0, (
        "a server on 0.0.0.0 is called on loopback"
    )


def test_health_is_printed_as_json(address: str):
    result = call("health", "--address", address, "--json")
    assert json.loads(result.stdout) == {"address": address, "status": "SERVING"}
    nobody = f"127.0.0.1:{free_port()}"
    result = call("health", "--address", nobody, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"].startswith("no answer (UNAVAILABLE: ")


def test_health_without_an_answer_fails():
    address = f"127.0.0.1:{free_port()}"
    code, text = fault(call("health", "--address", address, "--timeout", "60"))
    why = "no answer (UNAVAILABLE: nothing listens there: connection refused)"
    assert (code, text) == (1, f"{address}: {why}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code, _ = fault(
            call("health", "--address", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.1")
        )
        assert code == 1
    assert fault(call("health", "--address", "50051"))[0] == 2


def test_health_of_a_server_without_its_store_is_not_serving(tmp_path: Path):
    nowhere = f"redis://:hunter2@127.0.0.1:{free_port()}"
    with dev_server(tmp_path / "data", REDIS_URL=nowhere) as server:
        assert fault(call("health", "--address", server.address)) == (
            1,
            f"{server.address}: NOT_SERVING",
        )
        assert fault(call("demo", "--address", server.address)) == (
            1,
            f"{server.address}: NOT_SERVING; start a server with `session-authority dev`",
        )
        assert server.terminate() == 0
        assert "hunter2" not in server.printed + server.errors


def test_the_demo_shows_the_whole_life_of_a_session(address: str):
    result = call("demo", "--address", address)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("That was a session's life.\n")
    assert "ACTIVE → SUPERSEDED → REPLAYED" in result.stdout
    assert "Sami's phone" in result.stdout
    assert "Chrome 140 on Windows" in result.stdout
    assert re.findall(r"^\d+\. ", result.stdout, re.MULTILINE) == [
        f"{step}. " for step in range(1, 10)
    ]
    with Caller(address) as caller:
        assert caller.health() == "SERVING"


def test_the_demo_names_the_setting_that_makes_it_wait_too_long(tmp_path: Path):
    with dev_server(tmp_path / "data") as server:
        result = call("demo", "--address", server.address, "--patience", "1")
        [line] = result.stderr.splitlines()
        assert result.exit_code == 1
        assert "takes this server longer than 1 s" in line
        assert "SESSION_AUTHORITY_ALARM_AFTER=6s" in line


def test_a_second_server_on_the_same_folder_is_refused(address: str, data_dir: Path):
    result = run(data_dir.parent, "dev", "--listen", "127.0.0.1:0", "--data-dir", str(data_dir))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        (
            f"session-authority: another server is running on the data folder {data_dir.resolve()}:"
            " to run a second one, give it a folder of its own with --data-dir, and a port with"
            " --listen"
        )
    ]
    with Caller(address) as caller:
        assert caller.status(caller.sign_in()) == "ACTIVE", "the first server still answers"


def test_a_metrics_port_in_use_is_refused(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mine = f"127.0.0.1:{taken.getsockname()[1]}"
        data = str(tmp_path / "data")
        result = run(
            tmp_path, "dev", "--listen", "127.0.0.1:0", "--data-dir", data, METRICS_LISTEN=mine
        )
        assert result.returncode == 1
        why = f"can't listen on {mine} for metrics: Address already in use"
        assert f"session-authority: {why}" in result.stderr
        assert "Traceback" not in result.stderr


def test_dev_fills_an_empty_key_folder(tmp_path: Path):
    (tmp_path / "data" / "keys").mkdir(parents=True)
    with dev_server(tmp_path / "data") as server, Caller(server.address) as caller:
        assert caller.status(caller.sign_in()) == "ACTIVE"
