"""`serve` refuses unsafe settings unless each is allowed by name, and lists all faults at once.
`check` lists the same faults.
"""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from typer.testing import Result

from session_authority.runtime import descriptors
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Unsafe
from tests.cli.harness import call
from tests.processes.harness import add_signing_key
from tests.support.backends import ValkeyServer, service_at, valkey_server
from tests.support.ca import CA
from tests.support.commands import PATIENCE, Caller, Command
from tests.support.mmdb import mmdb
from tests.support.ports import free_port
from tests.support.waiting import wait_for

POLICY = """
[callers.login]
roles = ["issuer", "validator"]
"""
CANARY = "hunter2-canary"


@pytest.fixture(scope="module")
def safe_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey server without a fault."""
    with valkey_server(tmp_path_factory.mktemp("safe"), appendonly="yes") as server:
        yield server


@pytest.fixture
def sound(tmp_path: Path, safe_valkey: ValkeyServer) -> dict[str, str]:
    """Settings without a fault."""
    add_signing_key(tmp_path / "keys")
    policy = tmp_path / "access.toml"
    policy.write_text(POLICY)
    policy.chmod(0o644)
    return {
        "LISTEN": "127.0.0.1:0",
        "REDIS_URL": service_at(safe_valkey.port),
        "KEYS": str(tmp_path / "keys"),
        "ACCESS_POLICY": str(policy),
    }


def wrong(result: Result) -> list[tuple[str, str]]:
    """Returns the faults that `check` found: the title of each check, and its text."""
    rows = [
        re.split(r"\s+WRONG\s+", line.strip())
        for line in result.stdout.splitlines()
        if " WRONG " in line
    ]
    assert (result.exit_code == 1) is bool(rows), result.output
    return [(title, text) for title, text in rows]


Change = Callable[[dict[str, str], Path], object]


def _put(**settings: str) -> Change:
    return lambda sound, _: sound.update(settings)


def _metrics_token(token: str, mode: int = 0o600) -> Change:
    def change(sound: dict[str, str], folder: Path) -> None:
        file = folder / "metrics-token"
        file.write_text(token)
        file.chmod(mode)
        sound |= {"METRICS_LISTEN": "0.0.0.0:0", "METRICS_TOKEN_FILE": str(file)}

    return change


def _open_keys(sound: dict[str, str], _: Path) -> None:
    next(Path(sound["KEYS"]).glob("*.json")).chmod(0o644)


def _open_policy(sound: dict[str, str], _: Path) -> None:
    Path(sound["ACCESS_POLICY"]).chmod(0o666)


def _open_tls_key(sound: dict[str, str], folder: Path) -> None:
    pair = CA(folder).sign(addresses=["127.0.0.1"])
    pair.key.chmod(0o604)
    sound |= {"TLS_CERTIFICATE": str(pair.certificate), "TLS_KEY": str(pair.key)}


def _empty_policy(sound: dict[str, str], _: Path) -> None:
    Path(sound["ACCESS_POLICY"]).write_text("")


def _certificate_callers(sound: dict[str, str], _: Path) -> None:
    Path(sound["ACCESS_POLICY"]).write_text(
        '[callers.a]\nroles = ["issuer"]\ncertificates = ["spiffe://x/a"]'
    )


def _settings_file(sound: dict[str, str], folder: Path) -> None:
    path = folder / "settings.toml"
    path.write_text(f'redis_url = "{sound.pop("REDIS_URL")}"')
    path.chmod(0o644)
    sound["CONFIG"] = str(path)


def _weak_key(sound: dict[str, str], _: Path) -> None:
    path = next(Path(sound["KEYS"]).glob("*.json"))
    path.write_text(path.read_text().replace("EdDSA", "HS256"))


FAULTS: dict[str, tuple[Change, str, str, Unsafe | None]] = {
    "no store": (lambda s, _: s.pop("REDIS_URL"), "store address", "REDIS_URL: must be set", None),
    "bad store URL": (
        _put(REDIS_URL=f"http://:{CANARY}@h"),
        "store address",
        "REDIS_URL: must start with",
        None,
    ),
    "a store in plaintext": (
        _put(REDIS_URL=f"redis://:{CANARY}@192.0.2.1"),
        "store address",
        "192.0.2.1 without TLS",
        Unsafe.PLAINTEXT_STORE,
    ),
    "no keys": (lambda s, _: s.pop("KEYS"), "signing keys", "keys generate --promote", None),
    "keys that are not there": (_put(KEYS="/nowhere"), "signing keys", "/nowhere", None),
    "keys that others read": (_open_keys, "signing keys", "chmod g-w,o=", Unsafe.EXPOSED_SECRETS),
    "a key with a wrong algorithm": (_weak_key, "signing keys", "jwk must be", None),
    "no policy": (
        lambda s, _: s.pop("ACCESS_POLICY"),
        "access",
        "ACCESS_POLICY: must name",
        Unsafe.OPEN_ACCESS,
    ),
    "an empty policy": (_empty_policy, "access", "nobody could call", None),
    "a policy that others change": (_open_policy, "access", "chmod go-w", Unsafe.EXPOSED_SECRETS),
    "certificates of callers without a CA": (
        _certificate_callers,
        "access",
        "TLS_CLIENT_CA",
        None,
    ),
    "a certificate that is not there": (
        _put(TLS_CERTIFICATE="/nowhere/c.pem", TLS_KEY="/nowhere/k.pem"),
        "TLS",
        "/nowhere/c.pem: can't be read",
        None,
    ),
    "a TLS key that others read": (_open_tls_key, "TLS", "chmod g-w,o=", Unsafe.EXPOSED_SECRETS),
    "plaintext on all addresses": (
        _put(LISTEN="0.0.0.0:0"),
        "listens on",
        "in plaintext",
        Unsafe.PLAINTEXT,
    ),
    "a metrics token that is too short": (
        _metrics_token("short"),
        "metrics",
        "must hold one token of 16 to 4096 characters",
        None,
    ),
    "a token of metrics that others read": (
        _metrics_token(f"{CANARY} a long token".replace(" ", "-"), mode=0o644),
        "metrics",
        "chmod g-w,o=",
        Unsafe.EXPOSED_SECRETS,
    ),
    "a password that others read": (
        _settings_file,
        "settings file",
        "chmod g-w,o=",
        Unsafe.EXPOSED_SECRETS,
    ),
    "too little grace": (_put(GRACE="9s"), "intervals", "must be at least 10s", Unsafe.SHORT_GRACE),
}


def test_check_finds_no_fault_in_sound_settings(sound: dict[str, str]):
    result = call("check", **sound)
    assert (result.exit_code, wrong(result)) == (0, [])
    titles = (
        "settings file,store address,signing keys,access,TLS,listens on,metrics,places,audit log,"
        "descriptors,intervals,store,ports"
    )
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == titles.split(",")
    assert "nothing shows who they are: login" in result.stdout


def test_few_file_descriptors_are_reported_and_too_few_refused(
    sound: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(descriptors, "attainable", lambda: 1024)
    result = call("check", **sound)
    assert (result.exit_code, wrong(result)) == (0, [])
    assert "limited to 1024 (`ulimit -Hn`), which is enough for 768 connections" in result.stdout
    monkeypatch.setattr(descriptors, "attainable", lambda: 256)
    result = call("check", **sound)
    [(title, text)] = wrong(result)
    assert (result.exit_code, title) == (1, "descriptors")
    assert "limited to 256 (`ulimit -Hn`), which leaves too few for connections" in text
    assert call("serve", **sound).exit_code == 2


def test_an_audit_log_that_cannot_be_written_is_a_fault(sound: dict[str, str], tmp_path: Path):
    result = call("check", **sound, AUDIT_LOG=str(tmp_path))
    assert result.exit_code == 1
    assert f"AUDIT_LOG: {tmp_path} is no regular file" in result.stdout


def test_check_reports_the_state_of_the_geoip_database(sound: dict[str, str], tmp_path: Path):
    path = tmp_path / "places.mmdb"

    def found(contents: bytes) -> tuple[str, str]:
        path.write_bytes(contents)
        path.chmod(0o644)
        result = call("check", "--json", **sound, GEOIP_DATABASE=str(path))
        [row] = [
            row for row in map(json.loads, result.stdout.splitlines()) if row["check"] == "places"
        ]
        assert (result.exit_code == 1) is (row["result"] == "WRONG")
        return row["result"], row["text"]

    def database(kind: str, age: timedelta) -> bytes:
        built_at_seconds = int((now() - age).timestamp())
        return mmdb({}, kind=kind, built_at_seconds=built_at_seconds)

    result, text = found(database("GeoLite2-City", timedelta(days=12, hours=1)))
    assert (result, text[:22], text[-13:]) == ("ok", "GeoLite2-City, built 2", ", 12 days old")
    result, text = found(database("GeoLite2-City", timedelta(days=400)))
    assert (result, text.endswith("400 days old: replace it by a newer one")) == ("low", True)
    result, text = found(database("GeoLite2-ASN", timedelta(days=1)))
    assert (result, text.endswith("is no City or Country database")) == ("low", True)
    result, text = found(b"not a database")
    assert result == "WRONG"
    assert "is no database of places" in call("serve", **sound, GEOIP_DATABASE=str(path)).output


def test_check_prints_its_findings_as_json(sound: dict[str, str]):
    def rows(**more: str) -> tuple[int, dict[str, tuple[str, str]]]:
        result = call("check", "--json", **sound | more)
        found = [json.loads(line) for line in result.stdout.splitlines()]
        return result.exit_code, {row["check"]: (row["result"], row["text"]) for row in found}

    code, found = rows()
    assert (code, {result for result, _ in found.values()}) == (0, {"ok"})
    assert found["store address"] == ("ok", "redis")
    code, found = rows(GRACE="9s")
    assert (code, found["intervals"][0]) == (1, "WRONG")
    code, found = rows(GRACE="9s", ALLOW_UNSAFE="short-grace")
    assert (code, found["intervals"][0]) == (0, "allowed")


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_found_and_is_allowed_only_by_its_own_name(
    sound: dict[str, str], tmp_path: Path, case: str
):
    change, title, text, unsafe = FAULTS[case]
    change(sound, tmp_path)
    found = wrong(call("check", **sound))
    about = [said for where, said in found if where == title]
    assert any(text in said for said in about), found
    # some faults also prevent a connection to the store
    assert all(where in (title, "store") for where, _ in found)
    refused = call("serve", **sound)
    assert refused.exit_code == 2
    told = [
        line.removeprefix("session-authority: ")
        for line in refused.stderr.splitlines()
        if "{" not in line
    ]
    assert told == [said for where, said in found if where == title], (
        "`serve` says what `check` says"
    )
    others = ",".join(name.value for name in Unsafe if name is not unsafe)
    assert wrong(call("check", **sound, ALLOW_UNSAFE=others)), "no other name allows it"
    if unsafe is not None:
        assert f"(or allow it: SESSION_AUTHORITY_ALLOW_UNSAFE={unsafe.value})" in about[0]
        allowed = call("check", **sound, ALLOW_UNSAFE=unsafe.value)
        assert [said for where, said in wrong(allowed) if where == title] == []
        assert re.search(rf"^{title}\s+allowed\s", allowed.stdout, re.MULTILINE)
    assert CANARY not in refused.output + call("check", **sound).output


@pytest.mark.parametrize("name", ["LISTEN", "BEARER_LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN"])
def test_a_port_in_use_is_a_fault_unless_the_service_is_running(
    sound: dict[str, str], tmp_path: Path, name: str
):
    ca = CA(tmp_path)
    pair = ca.sign(addresses=["127.0.0.1"])
    pair.key.chmod(0o600)
    sound |= {
        "TLS_CERTIFICATE": str(pair.certificate),
        "TLS_KEY": str(pair.key),
        "TLS_CLIENT_CA": str(ca.file),
        "BEARER_LISTEN": "127.0.0.1:0",
        "WORKERS": "2",
    }
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        found = wrong(call("check", **sound | {name: f"127.0.0.1:{port}"}))
        beside = call("check", "--running", **sound | {name: f"127.0.0.1:{port}"})
    why = f"can't listen on 127.0.0.1:{port}: the port is taken"
    assert found == [("ports", f"SESSION_AUTHORITY_{name}: {why}")]
    assert beside.exit_code == 0, "the service itself may have the port"
    assert "ports" not in beside.stdout


def test_each_name_that_allows_a_fault_has_its_fault():
    of_the_store = {Unsafe.EVICTING_STORE, Unsafe.VOLATILE_STORE}
    assert {unsafe for _, _, _, unsafe in FAULTS.values() if unsafe} | of_the_store == set(Unsafe)


def test_a_store_that_can_lose_data_is_refused(sound: dict[str, str], tmp_path: Path):
    with valkey_server(
        tmp_path / "lru", **{"appendonly": "no", "maxmemory-policy": "allkeys-lru"}
    ) as server:
        sound["REDIS_URL"] = service_at(server.port)
        found = wrong(call("check", **sound))
        assert [title for title, _ in found] == ["store", "store"]
        named = [re.findall(r"ALLOW_UNSAFE=([a-z-]+)", text) for _, text in found]
        assert named == [["evicting-store"], ["volatile-store"]]
        assert call("serve", **sound).exit_code == 2
        assert wrong(call("check", **sound, ALLOW_UNSAFE="evicting-store,volatile-store")) == []


def test_check_fails_without_a_store_and_serve_waits_for_the_store(
    sound: dict[str, str], tmp_path: Path
):
    """`serve` waits for a store that does not answer. It ends if the store that comes back is
    unsafe.
    """
    with valkey_server(
        tmp_path / "lru", **{"appendonly": "no", "maxmemory-policy": "allkeys-lru"}
    ) as unsafe:
        unsafe.kill()
        sound["REDIS_URL"] = service_at(unsafe.port)
        assert wrong(call("check", **sound)) == [("store", "Redis does not answer")]
        sound["HEALTH_LISTEN"] = f"127.0.0.1:{free_port()}"
        server = Command(tmp_path / "serve", ["serve", "--listen", "127.0.0.1:0"], sound)
        try:
            assert server.wait_for_event("started_anyway")["fault"] == "Redis does not answer"
            server.wait_for_event("listening")
            assert "not_serving" in server.events()
            assert "NOT_SERVING" in call("health", **sound).stderr
            alive = call("health", "--liveness", **sound)
            assert (alive.exit_code, alive.stdout) == (0, "SERVING\n")
            server.process.send_signal(signal.SIGSTOP)
            hung = call("health", "--liveness", "--timeout", "0.5", **sound)
            server.process.send_signal(signal.SIGCONT)
            assert (hung.exit_code, "DEADLINE_EXCEEDED" in hung.stderr) == (1, True)
            unsafe.start()
            assert server.wait() == 1, "`serve` ends as soon as an unsafe store answers"
            assert "drops what it holds" in server.errors
            assert "does not append to a file" in server.errors
            assert "serving" not in server.events()
        finally:
            server.kill()


def test_serve_answers_only_callers_that_authenticate(sound: dict[str, str], tmp_path: Path):
    tokens = tmp_path / "tokens"
    added = call(
        "callers", "add", "login", "--tokens", str(tokens), ACCESS_POLICY=sound["ACCESS_POLICY"]
    )
    token = added.stdout.strip()
    health = free_port()
    sound |= {"CALLER_TOKENS": str(tokens), "HEALTH_LISTEN": f"127.0.0.1:{health}"}
    server = Command(tmp_path / "serve", ["serve", "--listen", "127.0.0.1:0"], sound)
    try:
        address = server.wait_for_event("listening")["address"]
        with Caller(address) as caller:
            wait_for(lambda: caller.health() == "SERVING", "the server to be healthy", PATIENCE)
            with pytest.raises(grpc.RpcError) as refused:
                caller.sign_in()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with Caller(address, token) as caller:
            assert caller.status(caller.sign_in()) == "ACTIVE"
        assert call("health", HEALTH_LISTEN=f"127.0.0.1:{health}").stdout == "SERVING\n"
        assert server.terminate() == 0
        assert server.printed == ""
        assert token not in server.errors + tokens.read_text()
    finally:
        server.kill()
