"""Proves that the committed stubs work on the grpcio and protobuf of the interpreter that runs this
script.

A real message goes through a real server and back. The script uses nothing but the stubs and their
imports, so it also runs on versions that the rest of the project does not support.
"""

from __future__ import annotations

import os
import sys
from concurrent import futures
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC logs every connection that it closes
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent.parent))

import google.protobuf  # noqa: E402  the path comes first
import grpc  # noqa: E402

from session_authority.internal.v1 import records_pb2  # noqa: E402
from session_authority.v1 import (  # noqa: E402
    errors_pb2,
    session_authority_pb2,
    session_authority_pb2_grpc,
)


class _Service(session_authority_pb2_grpc.SessionAuthorityServiceServicer):
    def ValidateSession(
        self, request: session_authority_pb2.ValidateSessionRequest, context: grpc.ServicerContext
    ) -> session_authority_pb2.ValidateSessionResponse:
        return session_authority_pb2.ValidateSessionResponse(
            status=session_authority_pb2.SESSION_STATUS_SUPERSEDED, device_id=request.device_id
        )


def main() -> None:
    """Runs the checks. Raises an exception if one of them fails."""
    for module in (errors_pb2, session_authority_pb2, records_pb2):
        for name in module.DESCRIPTOR.message_types_by_name:
            message = getattr(module, name)
            if message.FromString(message().SerializeToString()) != message():
                raise AssertionError(f"{name} does not survive its own encoding")

    sent = session_authority_pb2.IssueDeviceRequest(user_id="u1", claims={"plan": "pro"})
    sent.client.user_agent = "agent"
    sent.session_ttl.seconds = 90
    if session_authority_pb2.IssueDeviceRequest.FromString(sent.SerializeToString()) != sent:
        raise AssertionError("IssueDeviceRequest does not survive its own encoding")

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    session_authority_pb2_grpc.add_SessionAuthorityServiceServicer_to_server(_Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = session_authority_pb2_grpc.SessionAuthorityServiceStub(channel)
            answer = stub.ValidateSession(
                session_authority_pb2.ValidateSessionRequest(device_id="d1"),
                timeout=20,
                wait_for_ready=True,
            )
    finally:
        server.stop(None).wait()
    if (answer.status, answer.device_id) != (session_authority_pb2.SESSION_STATUS_SUPERSEDED, "d1"):
        raise AssertionError(f"the answer came back changed: {answer}")
    if "--quiet" not in sys.argv:
        print(
            f"The stubs work on grpcio {grpc.__version__} with protobuf"
            f" {google.protobuf.__version__}."
        )


if __name__ == "__main__":
    main()
