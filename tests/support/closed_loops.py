"""Lets grpc.aio go on after a test that left calls behind.

Each asynchronous test has an event loop of its own. grpc.aio reads the events of all loops from one
queue. If an event belongs to a closed loop, grpc.aio raises RuntimeError, and the event after it
waits for the next event: a call of another test then gets its answer at its deadline. Apps have one
event loop, so only tests meet this.
"""

from __future__ import annotations

from asyncio import Handle
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable
from typing import Any

_deliver = BaseEventLoop.call_soon_threadsafe


def _deliver_or_drop(
    self: BaseEventLoop, callback: Callable[..., Any], *args: Any, context: Any = None
) -> Handle | None:
    if self.is_closed() and getattr(callback, "__name__", "") == "_handle_callback_wrapper":
        return None
    return _deliver(self, callback, *args, context=context)


def drop_events_of_closed_loops() -> None:
    """Drops the events of grpc.aio that arrive for a closed event loop."""
    BaseEventLoop.call_soon_threadsafe = _deliver_or_drop  # type: ignore[assignment, method-assign]
