"""A real `serve` with mutual TLS, callers that show certificates, and strangers on raw connections
that never read the answers.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.runtime.addresses import Listen
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.processes.harness import add_signing_key
from tests.rpc import frames
from tests.rpc.frames import Frame
from tests.support.backends import ValkeyServer, service_at
from tests.support.ca import CA, Pair
from tests.support.commands import Command
from tests.support.ports import free_port

_INITIAL_WINDOW_SIZE = 4
PATIENCE = 30.0  # Seconds; for one call.
SERVICE = "/session_authority.v1.SessionAuthorityService/"
CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
POLICY = """
[callers.login]
roles = ["issuer", "validator", "watcher"]
certificates = ["login.internal"]

[callers.gateway]
roles = ["validator", "watcher"]
certificates = ["gateway.internal"]
"""


@dataclass
class Besieged:
    """A running `serve`, with everything that its callers need."""

    command: Command
    ca: CA
    server: Pair
    pairs: dict[str, Pair]
    main: Listen
    bearer: Listen
    health: Listen
    keys: Path
    policy: Path

    @contextmanager
    def caller(self, name: str = "login") -> Iterator[Any]:
        """The stub of a caller that shows its certificate, on a connection of its own."""
        pair = self.pairs[name]
        credentials = grpc.ssl_channel_credentials(
            self.ca.pem, pair.key.read_bytes(), pair.certificate.read_bytes()
        )
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.secure_channel(str(self.main), credentials, options) as channel:
            yield pb_grpc.SessionAuthorityServiceStub(channel)

    @contextmanager
    def health_watcher(self, port: str) -> Iterator[Any]:
        """A watch of health by a stranger, on a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        address = str(getattr(self, port))
        channel = (
            grpc.insecure_channel(address, options)
            if port == "health"
            else grpc.secure_channel(address, grpc.ssl_channel_credentials(self.ca.pem), options)
        )
        with channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            watch = stub.Watch(request, timeout=PATIENCE, wait_for_ready=True)
            yield watch
            watch.cancel()

    def tls(self, name: str | None = None) -> ssl.SSLContext:
        """The certificate that a raw connection shows: a caller's, or none."""
        context = ssl.create_default_context(cadata=self.ca.pem.decode())
        context.set_alpn_protocols(["h2"])
        if name is not None:
            context.load_cert_chain(self.pairs[name].certificate, self.pairs[name].key)
        return context


@contextmanager
def besieged(
    folder: Path,
    store: ValkeyServer,
    start: Callable[[Path, list[str], dict[str, str]], Command] = Command,
    **settings: str,
) -> Iterator[Besieged]:
    """Runs a server, as an operator would. `start` starts the command."""
    ca = CA(folder)
    server = ca.sign(addresses=["127.0.0.1"])
    server.key.chmod(0o600)
    pairs = {name: ca.sign(hosts=[f"{name}.internal"]) for name in ("login", "gateway")}
    keys, policy = folder / "keys", folder / "access.toml"
    add_signing_key(keys)
    policy.write_text(POLICY)
    policy.chmod(0o644)
    main, bearer, health = (Listen("127.0.0.1", free_port()) for _ in range(3))
    given = {
        "REDIS_URL": service_at(store.port),
        "REDIS_PREFIX": folder.name.replace("[", "-").replace("]", "-")[:32],
        "KEYS": str(keys),
        "ACCESS_POLICY": str(policy),
        "LISTEN": str(main),
        "BEARER_LISTEN": str(bearer),
        "HEALTH_LISTEN": str(health),
        "TLS_CERTIFICATE": str(server.certificate),
        "TLS_KEY": str(server.key),
        "TLS_CLIENT_CA": str(ca.file),
        **settings,
    }
    command = start(folder / "serve", ["serve"], given)
    try:
        command.wait_for_event("listening")
        yield Besieged(command, ca, server, pairs, main, bearer, health, keys, policy)
    finally:
        command.kill()


class Stranger:
    """A raw connection with small buffers. It sends calls, and reads only in `wait_until_answered`
    and `is_hung_up_on`.
    """

    def __init__(
        self, address: Listen, context: ssl.SSLContext | None = None, window: int = 65_535
    ) -> None:
        sock = socket.socket()
        # The kernel keeps few small segments for a peer that is slow.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(PATIENCE)
        sock.connect((address.host, address.port))
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=address.host)
        self._sock = sock
        self._stream = 1
        # With a window of 0, the connection accepts no data of any answer.
        settings = Frame(frames.SETTINGS, payload=struct.pack(">HI", _INITIAL_WINDOW_SIZE, window))
        # gRPC accepts few calls of a client that has not confirmed the service's own settings.
        confirmed = Frame(frames.SETTINGS, frames.ACK)
        self.send(frames.PREFACE + settings.to_bytes() + confirmed.to_bytes())

    def send(self, data: bytes) -> None:
        """Sends bytes, if the other side still listens."""
        with suppress(OSError):
            self._sock.sendall(data)

    def call(self, path: str, times: int = 1, body: bytes | None = b"") -> None:
        """Makes calls, with a request unless it is None."""
        sent = b""
        for _ in range(times):
            sent += Frame(
                frames.HEADERS, frames.END_HEADERS, self._stream, frames.headers(path)
            ).to_bytes()
            if body is not None:
                message = b"\0" + len(body).to_bytes(4) + body
                sent += Frame(frames.DATA, frames.END_STREAM, self._stream, message).to_bytes()
            self._stream += 2
        self.send(sent)

    def wait_until_answered(self) -> None:
        """Waits until the headers of the answer to the last call have arrived."""
        seen, wanted = b"", (self._stream - 2).to_bytes(4)
        while not any(
            seen[at + 3 : at + 4] == bytes([frames.HEADERS]) and seen[at + 5 : at + 9] == wanted
            for at in range(len(seen))
        ):
            received = self._sock.recv(65536)
            assert received, "the other side hung up"
            seen += received

    def is_hung_up_on(self) -> bool:
        """Returns whether the other side has closed the connection. Reads and drops what the other
        side sent.
        """
        self._sock.settimeout(0.05)
        try:
            while self._sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Closes the connection."""
        self._sock.close()


@contextmanager
def strangers(
    address: Listen, count: int, context: ssl.SSLContext | None = None, window: int = 65_535
) -> Iterator[list[Stranger]]:
    """This many strangers at once."""
    with ExitStack() as stack:
        crowd = []
        for _ in range(count):
            crowd.append(Stranger(address, context, window))
            stack.callback(crowd[-1].close)
        yield crowd


def sign_in(stub: Any, user_id: str = "ada") -> pb.IssueDeviceResponse:
    """Signs in."""
    answer: pb.IssueDeviceResponse = stub.IssueDevice(
        pb.IssueDeviceRequest(user_id=user_id), timeout=PATIENCE
    )
    return answer


def status(stub: Any, signed_in: pb.IssueDeviceResponse) -> str:
    """The status of a sign-in's token, or the code if the call is refused."""
    request = pb.ValidateSessionRequest(
        access_token=signed_in.access_token, device_id=signed_in.device.device_id
    )
    try:
        answer = stub.ValidateSession(request, timeout=PATIENCE)
    except grpc.RpcError as error:
        return str(error.code().name)
    return pb.SessionStatus.Name(answer.status).removeprefix("SESSION_STATUS_")
