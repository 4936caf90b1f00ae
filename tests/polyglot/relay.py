"""A relay of gRPC between clients and a real service. A test can cut, stall and resume its watches,
while all other calls pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

_STREAMS = {"WatchEvents"}
_OWN = ("user-agent", "grpc-", "content-type", "te")


class Relay:
    """The relay listens at `address`."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._watches: set[Any] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._server.start()

    def cut(self) -> None:
        """Breaks all watches, and refuses new ones until `resume`."""
        with self._lock:
            self._refusing = True
            for call in self._watches:
                call.cancel()

    def stall(self) -> None:
        """Holds back the messages of watches until `resume`, and breaks no watch."""
        self._flowing.clear()

    def resume(self) -> None:
        """Lets watches send their messages, and accepts new ones."""
        self._refusing = False
        self._flowing.set()

    @property
    def watching(self) -> int:
        """How many watches are open."""
        with self._lock:
            return len(self._watches)

    def close(self) -> None:
        """Closes all connections."""
        self.resume()
        self._server.stop(None).wait()
        self._channel.close()

    def unary(self, path: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Passes a call on, and its answer back."""
        call: Any = self._channel.unary_unary(path)
        try:
            answer: bytes = call(request, timeout=context.time_remaining(), metadata=_of(context))
        except grpc.RpcError as error:
            _fail(context, error)
        return answer

    def stream(self, path: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Passes a watch on."""
        if self._refusing:
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        begin: Any = self._channel.unary_stream(path)
        call = begin(request, metadata=_of(context))
        with self._lock:
            self._watches.add(call)
        context.add_callback(call.cancel)
        try:
            for message in call:
                while not self._flowing.wait(0.1):
                    if not context.is_active():
                        return
                yield message
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            _fail(context, error)
        finally:
            call.cancel()
            with self._lock:
                self._watches.discard(call)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path: str = details.method
        if path.rpartition("/")[2] in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._relay.stream(path, request, context)
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._relay.unary(path, request, context)
        )


def _of(context: grpc.ServicerContext) -> list[tuple[str, str | bytes]]:
    """The metadata of a call, without the metadata that gRPC adds by itself."""
    return [
        (name, value) for name, value in context.invocation_metadata() if not name.startswith(_OWN)
    ]


def _fail(context: grpc.ServicerContext, error: Any) -> None:
    context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
    context.abort(error.code(), error.details() or "")


@contextmanager
def relay_to(target: str) -> Iterator[Relay]:
    """A relay that is closed in the end."""
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()
