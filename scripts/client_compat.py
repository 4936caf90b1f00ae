"""Proves that the installed Python client works alone, on the grpcio and protobuf of the
interpreter that runs this script.

Both kinds of client call a real server, which uses the client's own copy of the contract. The
script uses nothing but the client and its requirements, so it also runs on versions that the rest
of the project does not support.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent import futures
from datetime import timedelta
from importlib.metadata import version
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC logs every connection that it closes

import google.protobuf
import grpc

import session_authority_client as sa
from session_authority_client._shared.transport import SERVICE
from session_authority_client.wire import errors_pb2, status_pb2
from session_authority_client.wire import session_authority_pb2 as pb

_PATIENCE = timedelta(seconds=20)


def _issue(request: pb.IssueDeviceRequest, context: grpc.ServicerContext) -> pb.IssueDeviceResponse:
    answer = pb.IssueDeviceResponse(access_token=f"token of {request.user_id}", new_device=True)
    answer.token_expire_time.FromSeconds(1)
    return answer


def _validate(
    request: pb.ValidateSessionRequest, context: grpc.ServicerContext
) -> pb.ValidateSessionResponse:
    answer = pb.ValidateSessionResponse(
        active=True, status=pb.SESSION_STATUS_ACTIVE, device_id=request.device_id
    )
    answer.session.user_id = "ada"
    return answer


def _update(
    request: pb.UpdateDeviceRequest, context: grpc.ServicerContext
) -> pb.UpdateDeviceResponse:
    status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="there is none")
    reason = errors_pb2.ErrorReason.Name(errors_pb2.ERROR_REASON_DEVICE_NOT_FOUND).removeprefix(
        "ERROR_REASON_"
    )
    info = status_pb2.ErrorInfo(reason=reason, domain="session-authority")
    status.details.add(
        type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString()
    )
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.NOT_FOUND, status.message)
    raise AssertionError("abort raises")


def _watch(
    request: pb.WatchEventsRequest, context: grpc.ServicerContext
) -> Iterator[pb.WatchEventsResponse]:
    event = pb.Event(event_id="e1", type=pb.EVENT_TYPE_ALL_REVOKED, user_id=request.user_ids[0])
    yield pb.WatchEventsResponse(cursor="c1", events=[event])


def _server() -> tuple[grpc.Server, str]:
    unary: dict[str, Any] = {
        "IssueDevice": _issue,
        "ValidateSession": _validate,
        "UpdateDevice": _update,
    }
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(
            handler,
            getattr(pb, f"{name}Request").FromString,
            getattr(pb, f"{name}Response").SerializeToString,
        )
        for name, handler in unary.items()
    }
    handlers["WatchEvents"] = grpc.unary_stream_rpc_method_handler(
        _watch, pb.WatchEventsRequest.FromString, pb.WatchEventsResponse.SerializeToString
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    return server, address


def _on_threads(address: str) -> list[Any]:
    with sa.SessionAuthority(address, timeout=_PATIENCE) as authority:
        issued = authority.issue_device(
            "ada", claims={"plan": "pro"}, session_ttl=timedelta(hours=1)
        )
        valid = authority.validate_session(issued.access_token, "d1")
        try:
            authority.update_device("ada", "d1", display_name="x")
        except sa.DeviceNotFound as error:
            reason = error.reason
        batches = list(authority.watch_events(user_ids=["ada"]))
    return [issued.access_token, valid, reason, batches]


async def _on_a_loop(address: str) -> list[Any]:
    async with sa.AsyncSessionAuthority(address, timeout=_PATIENCE) as authority:
        issued = await authority.issue_device(
            "ada", claims={"plan": "pro"}, session_ttl=timedelta(hours=1)
        )
        valid = await authority.validate_session(issued.access_token, "d1")
        try:
            await authority.update_device("ada", "d1", display_name="x")
        except sa.DeviceNotFound as error:
            reason = error.reason
        batches = [batch async for batch in authority.watch_events(user_ids=["ada"])]
    return [issued.access_token, valid, reason, batches]


def main() -> None:
    """Runs the checks. Raises an exception if one of them fails."""
    if importlib.util.find_spec("session_authority") is not None:
        raise AssertionError("the service is installed here too: the client must do without it")
    server, address = _server()
    try:
        answers = [_on_threads(address), asyncio.run(_on_a_loop(address))]
    finally:
        server.stop(None).wait()
    for token, valid, reason, batches in answers:
        if (token, bool(valid), reason) != ("token of ada", True, "DEVICE_NOT_FOUND"):
            raise AssertionError(f"the answers came back changed: {token}, {valid}, {reason}")
        if [(batch.cursor, batch.events[0].type) for batch in batches] != [
            ("c1", sa.EventType.ALL_REVOKED)
        ]:
            raise AssertionError(f"the events came back changed: {batches}")
    if "--quiet" not in sys.argv:
        versions = f"grpcio {grpc.__version__} with protobuf {google.protobuf.__version__}"
        print(
            f"session-authority-client {version('session-authority-client')} works on {versions}."
        )


if __name__ == "__main__":
    main()
