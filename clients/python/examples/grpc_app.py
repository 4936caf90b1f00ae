"""A server whose users sign in, and see where they are signed in: gRPC with asyncio.

    pip install session-authority-client
    AUTHORITY=127.0.0.1:50051 python grpc_app.py

`session-authority dev` is an authority to try it with. The messages are JSON, so that no `.proto`
is needed; with one, its generated `add_…Servicer_to_server` takes the place of `HANDLERS`.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc

from session_authority_client import (
    AsyncSessionAuthority,
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
)
from session_authority_client.environment import credentials_from_environment
from session_authority_client.grpc_server import AsyncSessionInterceptor, current_async_visit

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
LISTEN = os.environ.get("LISTEN", "127.0.0.1:8000")
SERVICE = "example.v1.Account"

Context = grpc.aio.ServicerContext
Message = dict[str, Any]


async def sign_in(request: object, context: Context) -> Message:
    """Signs in the user that the request names. Everybody may call it."""
    # Your own check of the user goes here: a password, a passkey, OpenID Connect. This demo
    # believes every name.
    try:
        issued = await current_async_visit().sign_in(
            await text(request, context, "user") or "",
            request_id=await text(request, context, "request_id"),
        )
    except InvalidRequest as error:  # the name is empty, or far too long
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem_of(error))
    except (RequestIdReused, RequestIdSpent):  # another sign-in had this request_id
        await context.abort(grpc.StatusCode.ABORTED, "sign in with a new request_id")
    return {"access_token": issued.access_token, "device_id": issued.device.device_id}


async def renew(_request: object, _context: Context) -> Message:
    """Swaps the caller's token for the next token. An app calls this method when a call of the app
    is refused with `token_expired`, or earlier. If the answer has no token, the app keeps its
    token.
    """
    return {"access_token": (await current_async_visit().renew()).access_token}


async def my_devices(_request: object, _context: Context) -> AsyncIterator[Message]:
    """Streams the devices where the user is signed in."""
    for device in await current_async_visit().devices():
        yield {
            "device_id": device.device_id,
            "name": device.display_name,
            "last_seen": f"{device.last_seen_time:%d %b %Y, %H:%M} UTC",
            "current": device.current,
        }


async def sign_out(request: object, context: Context) -> Message:
    """Signs the user out on the device that the request names, or on the caller's own."""
    try:
        await current_async_visit().sign_out(await text(request, context, "device_id"))
    except InvalidRequest as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem_of(error))
    return {}


async def sign_out_everywhere(_request: object, _context: Context) -> Message:
    """Signs the user out on all devices but the caller's own."""
    return {"signed_out": await current_async_visit().sign_out_everywhere()}


def problem_of(error: InvalidRequest) -> str:
    """The fields that break a rule, with the rules."""
    return ", ".join(f"{rule.field} {rule.description}" for rule in error.violations)


async def text(request: object, context: Context, field: str) -> str | None:
    """The text in a field of the request, None if it is absent. Refuses anything else."""
    if not isinstance(request, dict):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a request must be a JSON object")
    value = request.get(field)
    if value is not None and not isinstance(value, str):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{field} must be a text")
    return value


def read(data: bytes) -> object:
    """Reads a request. Returns None if the request is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def write(message: Message) -> bytes:
    """Writes a response."""
    return json.dumps(message).encode()


unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
HANDLERS = grpc.method_handlers_generic_handler(
    SERVICE,
    {
        "SignIn": unary(sign_in, read, write),
        "Renew": unary(renew, read, write),
        "MyDevices": stream(my_devices, read, write),
        "SignOut": unary(sign_out, read, write),
        "SignOutEverywhere": unary(sign_out_everywhere, read, write),
    },
)


async def serve() -> None:
    """Serves until SIGTERM or SIGINT."""
    sessions = AsyncSessionInterceptor(
        lambda: AsyncSessionAuthority(AUTHORITY, **credentials_from_environment()),
        # All other methods are for users who are signed in.
        public=(f"/{SERVICE}/SignIn", f"/{SERVICE}/Renew"),
    )
    server = grpc.aio.server(interceptors=[sessions])
    server.add_generic_rpc_handlers([HANDLERS])
    # Tokens must not travel in plaintext: `add_secure_port`, or TLS in front of it.
    server.add_insecure_port(LISTEN)
    await server.start()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await server.stop(grace=5)
    await sessions.close()


if __name__ == "__main__":
    asyncio.run(serve())
