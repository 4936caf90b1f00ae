"""A watcher that may be killed at any moment: it writes the events to a file first, and only then
their cursor.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import grpc

from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc


def watch(address: str, told: Path, cursor: Path) -> None:
    """Goes on from its last position, for ever."""
    out = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        with grpc.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 500)]) as channel:
            stub: Any = pb_grpc.SessionAuthorityServiceStub(channel)
            request = pb.WatchEventsRequest(cursor=cursor.read_text() if cursor.exists() else "")
            try:
                for message in stub.WatchEvents(request, wait_for_ready=True):
                    lines = "".join(
                        f"{event.event_id} {event.user_id}\n" for event in message.events
                    )
                    os.write(out, lines.encode())
                    fresh = cursor.with_suffix(".new")
                    fresh.write_text(message.cursor)
                    fresh.replace(cursor)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    os.write(out, f"{error.code().name} !\n".encode())
        time.sleep(0.05)


if __name__ == "__main__":
    watch(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
