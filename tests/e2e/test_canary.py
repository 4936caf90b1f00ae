"""No secret is printed, sent or stored: canaries go into every secret and into everything that a
caller may send, through the real processes, in good and bad calls. Then every place that they could
leak to is searched for them.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
import redis
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from session_authority.store.acl import acl_rules
from session_authority.store.embedded import EmbeddedValkey
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.e2e.canaries import Canaries, Place, note_key, note_pem, note_token
from tests.e2e.canary_harness import Stage
from tests.processes.harness import add_signing_key
from tests.relay.receiver import SECRET, Receiver
from tests.support.backends import ValkeyServer, admin_at, valkey_server
from tests.support.ca import CA
from tests.support.commands import PATIENCE, Command, dev_server, run
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

QUICK = {"GRACE": "1s", "DURABLE_AFTER": "0s", "ALARM_AFTER": "1s", "LOG_LEVEL": "debug"}
POLICY = """
[callers.everything]
roles = ["operator"]
[callers.gateway]
roles = ["validator"]
"""
Code = grpc.StatusCode


# --- input of the service -------------------------------------------------------------------------


@dataclass
class User:
    """A user who signs in on two devices. All fields of the user are canaries."""

    name: str
    client: pb.ClientInfo
    phone: pb.IssueDeviceResponse
    laptop: pb.IssueDeviceResponse


def live_a_life(stage: Stage) -> User:
    """Makes the calls of honest users, and of a thief."""
    plant = stage.canaries.plant
    client = pb.ClientInfo(
        ip_address="2001:db8:ca9a:51ed::c0de", user_agent=f"{plant('user agent')}/1.0 " + "x" * 600,
        display_name=plant("app's name of the device"), app_version=plant("app version"),
    )  # fmt: skip
    plant("address", client.ip_address)
    name = plant("user ID")
    with stage.stub(stage.token) as stub:

        def sign_in() -> pb.IssueDeviceResponse:
            request_id = uuid4()
            plant("request_id", str(request_id))
            plant("request_id", request_id.bytes)
            request = pb.IssueDeviceRequest(
                user_id=name,
                client=client,
                claims={"email": plant("claim"), f"n-{plant('name of a claim')}": "x"},
                auth_methods=[plant("auth method")],
                request_id=str(request_id),
            )
            answer: pb.IssueDeviceResponse = stub.IssueDevice(
                request, timeout=PATIENCE, wait_for_ready=True
            )
            assert note_token(
                stage.canaries, stub.IssueDevice(request, timeout=PATIENCE).access_token
            )
            plant("device ID", answer.device.device_id)
            plant("device ID", UUID(answer.device.device_id).bytes)
            note_token(stage.canaries, answer.access_token)
            reused = pb.IssueDeviceRequest(user_id=name, request_id=str(request_id))
            stage.refuses(stub.IssueDevice, reused, Code.INVALID_ARGUMENT)
            return answer

        user = User(name, client, sign_in(), sign_in())

        def ask(token: str, device_id: str) -> pb.ValidateSessionResponse:
            request = pb.ValidateSessionRequest(
                access_token=token, device_id=device_id, client=client
            )
            answer: pb.ValidateSessionResponse = stub.ValidateSession(request, timeout=PATIENCE)
            return answer

        def renewed() -> bool:
            request = pb.RenewSessionRequest(
                access_token=user.phone.access_token,
                device_id=user.phone.device.device_id,
                client=client,
            )
            answer = stub.RenewSession(request, timeout=PATIENCE)
            if answer.rotated:
                note_token(stage.canaries, answer.access_token)
                assert ask(answer.access_token, user.phone.device.device_id).active
            return bool(answer.rotated)

        phone = user.phone
        assert ask(phone.access_token, phone.device.device_id).active
        wait_for(renewed, "the token to be old enough to be renewed", PATIENCE)
        rename = plant("user's name of the device")
        stub.UpdateDevice(
            pb.UpdateDeviceRequest(
                user_id=name, device_id=phone.device.device_id, display_name=rename
            ),
            timeout=PATIENCE,
        )
        changed = {f"n-{plant('changed claim')}": plant("changed claim")}
        update = pb.UpdateSessionRequest(
            user_id=name, device_id=phone.device.device_id, claims=changed
        )
        assert stub.UpdateSession(update, timeout=PATIENCE).updated_sessions == 1
        replayed = pb.SESSION_STATUS_REPLAYED
        wait_for(
            lambda: ask(phone.access_token, phone.device.device_id).status == replayed,
            "the alarm",
            PATIENCE,
        )
        third = sign_in()
        assert ask(third.access_token, user.laptop.device.device_id).status == replayed
        fourth, reason = sign_in(), plant("reason")
        stub.RevokeDevice(
            pb.RevokeDeviceRequest(user_id=name, device_id=fourth.device.device_id, reason=reason),
            timeout=PATIENCE,
        )
        sign_in()
        stub.RevokeAll(pb.RevokeAllRequest(user_id=name, reason=reason), timeout=PATIENCE)
        stub.ListDevices(
            pb.ListDevicesRequest(user_id=name, include_signed_out=True), timeout=PATIENCE
        )
    return user


def talk_nonsense(stage: Stage, user: User) -> None:
    """Makes calls that are refused, each with a canary in it."""
    plant = stage.canaries.plant
    token, device = user.phone.access_token, user.phone.device.device_id
    head, payload, signature = token.split(".")
    none = base64.urlsafe_b64encode(
        json.dumps({"alg": "none", "typ": "at+jwt", "kid": plant("kid")}).encode()
    )
    bad_tokens = [
        plant("bad token"),
        ".".join(plant("bad token") for _ in range(3)),
        token + "=",
        f"{head}.{payload}.{signature[::-1]}",
        f"{none.rstrip(b'=').decode()}.{payload}.",
        plant("long token") + "x" * 5000,
        "é" + plant("bad token"),
    ]
    long = "x" * 5000
    issue, at = pb.IssueDeviceRequest, pb.ClientInfo
    wrong: dict[str, list[Any]] = {
        "IssueDevice": [
            issue(user_id=f"{plant('bad user ID')} "),
            issue(user_id=plant("long user ID") + long),
            issue(user_id="a", request_id=plant("bad request_id")),
            issue(
                client=at(
                    ip_address=plant("bad address"),
                    user_agent=f"{plant('bad agent')}\n\x00",
                    display_name=plant("long name") + long,
                    app_version=plant("long version") + long,
                )
            ),
            issue(client=at(ip_address=f"fe80::1%{plant('zone')}")),
            issue(user_id="a", claims={"scope": plant("reserved claim")}),
            issue(user_id="a", claims={f"{plant('bad name of a claim')} ": plant("claim")}),
            issue(user_id="a", claims={"x": plant("long claim") + long}),
            issue(user_id="a", auth_methods=[f"{plant('bad auth method')} "]),
            issue(user_id="a", auth_methods=[plant("many auth methods")] * 9),
            issue(
                user_id="a", session_ttl=Duration(seconds=-1), request_id=plant("bad request_id")
            ),
        ],
        "UpdateSession": [
            pb.UpdateSessionRequest(
                user_id="a", device_id=plant("bad device ID"), claims={"x": plant("claim") + long}
            )
        ],
        "ListDevices": [
            pb.ListDevicesRequest(user_id="a", page_token=plant("page token")),
            pb.ListDevicesRequest(
                user_id="a", current_device_id=plant("bad device ID"), page_size=-1
            ),
        ],
        "UpdateDevice": [
            pb.UpdateDeviceRequest(
                user_id="a", device_id=plant("bad device ID"), display_name=plant("name") + long
            )
        ],
        "RevokeDevice": [
            pb.RevokeDeviceRequest(
                user_id="a", device_id=plant("bad device ID"), reason=plant("long reason") + long
            )
        ],
        "RevokeAll": [pb.RevokeAllRequest(user_id=" ", reason=f"{plant('bad reason')}\nx")],
        "WatchEvents": [
            pb.WatchEventsRequest(cursor=plant("cursor")),
            pb.WatchEventsRequest(user_ids=[f"{plant('bad user ID')} "]),
        ],
    }
    with stage.stub(stage.token) as stub:
        for method, requests in wrong.items():
            for request in requests:
                stage.refuses(getattr(stub, method), request, Code.INVALID_ARGUMENT)
        nobody = pb.UpdateDeviceRequest(
            user_id=f"nobody-{plant('absent user')}", device_id=str(uuid4())
        )
        stage.refuses(stub.UpdateDevice, nobody, Code.NOT_FOUND)
        huge = pb.ValidateSessionRequest(access_token=plant("huge token") * 5000)
        stage.refuses(stub.ValidateSession, huge, Code.RESOURCE_EXHAUSTED)
        asked = [
            pb.ValidateSessionRequest(access_token=bad, device_id=device) for bad in bad_tokens
        ]
        asked.append(
            pb.ValidateSessionRequest(access_token=token, device_id=plant("bad device ID"))
        )
        for request in asked:
            assert not stub.ValidateSession(request, timeout=PATIENCE).active
            renewal = pb.RenewSessionRequest(
                access_token=request.access_token, device_id=request.device_id
            )
            assert not stub.RenewSession(renewal, timeout=PATIENCE).access_token
        odd = at(ip_address=plant("bad address"))
        asked.append(pb.ValidateSessionRequest(access_token=token, client=odd))
        batch = stub.BatchValidateSessions(
            pb.BatchValidateSessionsRequest(requests=asked), timeout=PATIENCE
        )
        for result in batch.results:
            stage.seen.append(
                (Place.ERROR, "an error in a batch", result.error.SerializeToString())
            )
    send_bad_metadata(stage)
    poison_a_record(stage, user)


def send_bad_metadata(stage: Stage) -> None:
    """Makes calls with bad credentials, with unknown metadata, or to unknown methods."""
    plant = stage.canaries.plant
    request = pb.ListDevicesRequest(user_id="a")
    bad: list[list[tuple[str, str | bytes]]] = [
        [("authorization", f"Bearer {plant('wrong caller token')}")],
        [("authorization", f"Bearer sacall_{plant('wrong caller token')}")],
        [("authorization", f"Bearer  {plant('wrong caller token')} {plant('wrong caller token')}")],
        [
            (
                "authorization",
                f"Basic {base64.b64encode(plant('basic credentials').encode()).decode()}",
            )
        ],
        [("authorization", plant("bare credentials"))],
        [
            ("authorization", f"Bearer {plant('first of two')}"),
            ("authorization", f"Bearer {plant('second of two')}"),
        ],
        [("authorization-bin", f"Bearer {plant('binary credentials')}".encode())],
        [
            (f"x-{plant('name of metadata')}", plant("metadata")),
            ("x-other-bin", plant("metadata").encode()),
        ],
        [("cookie", f"session={plant('cookie')}"), ("user-agent", plant("gRPC user agent"))],
    ]
    refused = (Code.UNAUTHENTICATED,)
    with stage.channel() as channel:
        stub: Any = pb_grpc.SessionAuthorityServiceStub(channel)
        for metadata in bad:
            if stage.token is None:
                stub.ListDevices(request, timeout=PATIENCE, metadata=metadata)
            else:
                stage.refuses(stub.ListDevices, request, *refused, metadata=metadata)
        if stage.token is not None:
            watch = pb.WatchEventsRequest()
            stage.refuses(stub.WatchEvents, watch, *refused, metadata=bad[0])
        too_much = [("x-much", plant("too much metadata") * 900)]
        stage.refuses(stub.ListDevices, request, Code.RESOURCE_EXHAUSTED, metadata=too_much)
        service = "/session_authority.v1.SessionAuthorityService"
        nothing: Any = channel.unary_unary(f"{service}/{plant('name of a method')}")
        stage.refuses(nothing, b"", Code.UNIMPLEMENTED)
        raw: Any = channel.unary_unary(f"{service}/ListDevices")
        mine = [] if stage.token is None else [("authorization", f"Bearer {stage.token}")]
        garbage = b"\x0a\xff" + plant("bytes that are no message").encode()
        stage.refuses(raw, garbage, Code.INVALID_ARGUMENT, metadata=mine)
    if stage.other_token is not None:
        with stage.stub(stage.other_token) as stub:
            stage.refuses(stub.ListDevices, request, Code.PERMISSION_DENIED)
            unseen = pb.ValidateSessionRequest(access_token=plant("bad token"), observe_only=True)
            stage.refuses(stub.ValidateSession, unseen, Code.PERMISSION_DENIED)


def poison_a_record(stage: Stage, user: User) -> None:
    """Damages a record: the log must report it without its content."""
    broken = stage.canaries.plant("broken record").encode()
    [devices] = [
        key for key in stage.admin.scan_iter(count=1000) if key.endswith(f":d:{user.name}".encode())
    ]
    fields: dict[Any, Any] = stage.admin.hgetall(devices)
    stage.admin.hset(devices, mapping=dict.fromkeys(fields, b"\xff" + broken))
    with stage.stub(stage.token) as stub:
        request = pb.ListDevicesRequest(user_id=user.name, include_signed_out=True)
        stub.ListDevices(request, timeout=PATIENCE)
    stage.admin.hset(devices, mapping=fields)
    logged = lambda: "record_unreadable" in stage.server.events()  # noqa: E731
    wait_for(logged, "the record to be told of", PATIENCE)


def hear_of_it(stage: Stage) -> None:
    """Watches all events."""
    streams = [
        key
        for key in stage.admin.scan_iter(count=1000)
        if stage.admin.type(key) == b"stream" and key.endswith(b":e")
    ]
    expected = sum(stage.admin.xlen(key) for key in streams)
    assert expected >= 8
    with stage.stub(stage.token) as stub:
        watch = stub.WatchEvents(
            pb.WatchEventsRequest(start_time=Timestamp(seconds=1)), timeout=PATIENCE
        )
        count = 0
        for message in watch:
            stage.seen += [(Place.EVENT, "what a watcher hears", message.SerializeToString())]
            count += len(message.events)
            if count >= expected:
                break
        watch.cancel()


# --- faults around the service --------------------------------------------------------------------


def ask_in_vain(stage: Stage, user: User) -> None:
    """Makes calls that must fail, because Redis does not answer or refuses."""
    with stage.stub(stage.token) as stub:
        plant = stage.canaries.plant
        for call, request in (
            (
                stub.IssueDevice,
                pb.IssueDeviceRequest(user_id=plant("user in vain"), claims={"x": plant("claim")}),
            ),
            (
                stub.ValidateSession,
                pb.ValidateSessionRequest(
                    access_token=user.phone.access_token,
                    device_id=user.phone.device.device_id,
                    client=user.client,
                ),
            ),
            (
                stub.RevokeAll,
                pb.RevokeAllRequest(user_id=user.name, reason=plant("reason in vain")),
            ),
        ):
            stage.refuses(call, request, Code.UNAVAILABLE)


def trouble_redis(stage: Stage, server: ValkeyServer, name: str, password: str, user: User) -> None:
    """Makes Redis unreachable. Then lets Redis refuse the password, and then some commands.
    Restores Redis at the end.
    """
    plant = stage.canaries.plant
    stage.admin.execute_command("ACL", "SAVE")
    server.kill()
    stage.server.wait_for_event("not_serving")
    ask_in_vain(stage, user)
    server.start()
    stage.server.wait_for_event("serving", 2)
    other = plant("another Redis password")
    stage.admin.execute_command("ACL", "SETUSER", name, "resetpass", f">{other}")
    stage.admin.execute_command("CLIENT", "KILL", "USER", name)
    stage.server.wait_for_event("not_serving", 2)
    ask_in_vain(stage, user)
    stage.admin.execute_command("ACL", "SETUSER", name, "resetpass", f">{password}")
    stage.server.wait_for_event("serving", 3)
    stage.admin.execute_command("ACL", "SETUSER", name, "-hget", "-evalsha", "-eval", "-hgetall")
    ask_in_vain(stage, user)
    assert "NOPERM" in stage.server.errors
    stage.admin.execute_command("ACL", "SETUSER", name, *acl_rules("sa"))


def break_files(stage: Stage, *files: tuple[str, Path, str]) -> None:
    """Replaces files of the running service by unusable ones, and restores them."""
    for event, path, content in files:
        before, count = path.read_text(), stage.server.events().count(event)
        path.write_text(content)
        stage.server.wait_for_event(event, count + 1)
        path.write_text(before)
        port = stage.metrics[0]

        def mended(port: int = port) -> bool:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE
            ) as answer:
                return not re.search(
                    rb"^session_authority_files_broken\{.*\} 1", answer.read(), re.MULTILINE
                )

        wait_for(mended, "the files to be mended", PATIENCE)


def test_nothing_leaks_from_serve_and_its_relay(tmp_path: Path):
    canaries = Canaries()
    name, password = canaries.plant("Redis user"), canaries.plant("Redis password")
    folder = tmp_path / "valkey"
    with ExitStack() as stack:
        server = stack.enter_context(valkey_server(folder, appendonly="yes"))
        admin = stack.enter_context(redis.Redis.from_url(admin_at(server.port)))
        admin.execute_command("ACL", "SETUSER", name, f">{password}", *acl_rules("sa"))
        add_signing_key(tmp_path / "keys")
        key = note_key(canaries, tmp_path / "keys")
        ca = CA(tmp_path)
        pair = ca.sign(addresses=["127.0.0.1"])
        pair.key.chmod(0o600)
        note_pem(canaries, pair.key)
        policy, tokens = tmp_path / "access.toml", tmp_path / "tokens"
        policy.write_text(POLICY)
        policy.chmod(0o600)
        added = [
            run(tmp_path, "callers", "add", who, "--tokens", str(tokens))
            for who in ("everything", "gateway")
        ]
        caller_tokens = [made.stdout.strip() for made in added]
        for token in caller_tokens:
            canaries.plant("caller token", token.removeprefix("sacall_"))
        ports = [free_port(), free_port()]
        settings = QUICK | {
            "REDIS_URL": f"redis://{name}:{password}@127.0.0.1:{server.port}",
            "KEYS": str(tmp_path / "keys"),
            "TLS_CERTIFICATE": str(pair.certificate),
            "TLS_KEY": str(pair.key),
            "ACCESS_POLICY": str(policy),
            "CALLER_TOKENS": str(tokens),
            "ALLOW_UNSAFE": "short-grace",
            "METRICS_LISTEN": f"127.0.0.1:{ports[0]}",
        }
        service = Command(tmp_path / "serve", ["serve", "--listen", "127.0.0.1:0"], settings)
        stack.callback(service.kill)
        address = service.wait_for_event("listening")["address"]
        service.wait_for_event("serving")
        stage = Stage(
            canaries, service, address, admin, folder, ports,
            token=caller_tokens[0], other_token=caller_tokens[1], ca=ca.pem,
        )  # fmt: skip
        for made in added:
            stage.printed("callers add", made.stderr)

        receiver = stack.enter_context(Receiver().listening())
        receiver.status = 500
        canaries.plant("secret of an endpoint", SECRET.removeprefix("whsec_"))
        canaries.plant("secret of an endpoint", base64.b64decode(SECRET.removeprefix("whsec_")))
        endpoints = tmp_path / "endpoints.toml"
        url = f"{receiver.url}?key={canaries.plant('key in the URL of an endpoint')}"
        endpoints.write_text(receiver.toml(url=f'"{url}"'))
        endpoints.chmod(0o600)
        relay_settings = settings | {
            "RELAY_ENDPOINTS": str(endpoints),
            "METRICS_LISTEN": f"127.0.0.1:{ports[1]}",
        }
        relay = Command(tmp_path / "relay", ["relay"], relay_settings)
        stack.callback(relay.kill)
        relay.wait_for_event("relaying")
        wait_for(lambda: _all_leased(admin), "the relay to take all partitions", PATIENCE)

        user = live_a_life(stage)
        talk_nonsense(stage, user)
        relay.wait_for_event("endpoint_failing")
        receiver.status = 204
        trouble_redis(stage, server, name, password, user)
        break_files(
            stage,
            ("keys_not_changed", key, f'{{"d": "{canaries.plant("bad signing key")}"'),
            (
                "keys_not_changed",
                key,
                key.read_text().replace('"d":"', f'"d":"{canaries.plant("bad signing key")}'),
            ),
            (
                "access_not_changed",
                policy,
                f'[callers.a]\nroles = "{canaries.plant("token in the policy")}',
            ),
            ("access_not_changed", tokens, f"everything  {caller_tokens[0]}\n"),
            ("access_not_changed", tokens, f"{canaries.plant('token in the tokens file')}\n"),
            ("certificates_not_changed", pair.key, canaries.plant("bad TLS key")),
            ("certificates_not_changed", pair.certificate, pair.key.read_text()),
        )
        live_a_life(stage)
        hear_of_it(stage)
        wait_for(lambda: len(receiver.taken) > 0, "the endpoint to take an event", PATIENCE)
        stage.seen.append(
            (Place.EVENT, "what an endpoint is sent", json.dumps(receiver.attempts).encode())
        )
        for command in (
            ["check"], ["callers", "list"], ["keys", "list"], ["redis-acl"], ["relay", "status"],
            ["relay", "dead", "list"],
        ):  # fmt: skip
            # The ports are in use: the service runs.
            expected = 1 if command == ["check"] else 0
            done = run(tmp_path, *command, **relay_settings)
            assert done.returncode == expected, done
            stage.printed(" ".join(command), done.stdout + done.stderr)
        stage.look_around()
        stage.printed("the relay's output", relay.printed + relay.errors)
        assert [service.terminate(), relay.terminate()] == [0, 0]
        stage.printed(
            "the last words", service.errors + relay.errors + service.printed + relay.printed
        )
        stage.has_leaked_nothing()


def test_nothing_leaks_from_dev(tmp_path: Path):
    canaries, port = Canaries(), free_port()
    data = tmp_path / "data"
    with dev_server(data, METRICS_LISTEN=f"127.0.0.1:{port}", **QUICK) as server:
        note_key(canaries, data / "keys")
        server.wait_for_event("serving")
        path = EmbeddedValkey(data).url.removeprefix("unix://")
        with redis.Redis(unix_socket_path=path) as admin:
            stage = Stage(canaries, server, server.address, admin, data, [port])
            user = live_a_life(stage)
            talk_nonsense(stage, user)
            hear_of_it(stage)
            stage.look_around()
        assert server.terminate() == 0
        stage.printed("the last words", server.errors + server.printed)
        stage.has_leaked_nothing()


def _all_leased(admin: redis.Redis) -> bool:
    return sum(1 for key in admin.scan_iter("sa:{*}:l:mailer", count=1000)) == 64
