"""An endpoint on loopback that records what it receives, and answers as a test says."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0ISE="


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Ignores clients that closed the connection because they were killed: the test looks at
        the events that arrived.
        """


class Receiver:
    """Verifies each event. `status` is the answer to all users, and `statuses` has the answers to
    single users.
    """

    def __init__(self) -> None:
        self.status = 204
        self.statuses: dict[str, int] = {}
        self.attempts: list[dict[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        self._lock = Lock()
        self._verify = Webhook(SECRET).verify
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # The sender was killed.
                    self.close_connection = True
                    return
                receiver._verify(body, dict(self.headers.items()))
                self.send_response(receiver._note(json.loads(body)))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Logs nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"

    def _note(self, event: dict[str, Any]) -> int:
        with self._lock:
            status = self.statuses.get(event.get("subject", ""), self.status)
            self.attempts.append(event)
            if status == 204:
                self.taken.append(event)
        return status

    def ids(self) -> set[str]:
        """The IDs of the events that it accepted."""
        with self._lock:
            return {event["id"] for event in self.taken}

    def by_user(self) -> dict[str, list[str]]:
        """The events that it accepted for each user, in the order of their first arrival."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        with self._lock:
            for event in self.taken:
                user = event.get("subject", "")
                if event["id"] not in found[user]:
                    found[user].append(event["id"])
        return dict(found)

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        """Accepts events inside the block."""
        thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(10)

    def toml(self, name: str = "mailer", **more: str) -> str:
        """Its table in a file of endpoints. `more` has further fields as TOML."""
        fields = {"name": f'"{name}"', "url": f'"{self.url}"', "secrets": f'["{SECRET}"]'} | more
        return "[[endpoint]]\n" + "".join(f"{field} = {value}\n" for field, value in fields.items())
