"""A WebSocket and an event stream in Chromium, with the real service: a sign-out elsewhere ends
both.

The browser requests the event stream once more, is answered 401, and stops.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from session_authority_client import AsyncSessionAuthority, NearCache, SessionAuthority
from session_authority_client.asgi import SessionAuthorityMiddleware, visit_of
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow
from tests.support.backends import missing
from tests.support.dev import DevServer, dev_server
from tests.support.ports import free_port
from tests.support.waiting import wait_for

PATIENCE = timedelta(seconds=30)
SECONDS = PATIENCE.total_seconds()
FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium has no sandbox when the tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
)
PAGE = """
<script>
  window.told = [];
  const socket = new WebSocket(`ws://${location.host}/chat`);
  socket.onmessage = (event) => told.push("chat " + event.data);
  socket.onclose = (event) => told.push(`closed ${event.code} ${event.reason}`);
  const events = new EventSource("/events");
  events.onmessage = (event) => told.push("event " + event.data);
  events.onerror = () => told.push(events.readyState == 2 ? "stopped" : "again");
</script>
"""


class Site:
    """The app: the session that was signed in, and how often the event stream was requested."""

    def __init__(self) -> None:
        self.session: Any = None
        self.opened = 0
        self.port = free_port()

    async def enter(self, request: Request) -> HTMLResponse:
        """Signs Ada in."""
        await visit_of(request.scope).sign_in("ada")
        self.session = visit_of(request.scope).require()
        return HTMLResponse(PAGE.replace("<script>", "in<script>"))

    async def page(self, request: Request) -> HTMLResponse:
        """Answers with a page that opens the WebSocket and the event stream."""
        visit_of(request.scope).require()
        return HTMLResponse(PAGE)

    async def chat(self, socket: WebSocket) -> None:
        """Sends a greeting, and never reads."""
        visit_of(socket.scope).require()
        await socket.accept()
        await socket.send_text("hello")
        await asyncio.Event().wait()

    async def events(self, request: Request) -> StreamingResponse:
        """Sends one event, and then is silent."""
        self.opened += 1
        visit_of(request.scope).require()

        async def parts() -> AsyncIterator[str]:
            yield "retry: 50\ndata: hello\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(parts(), media_type="text/event-stream")

    def app(self, address: str) -> Any:
        """Returns the app with all routes, behind the middleware."""
        routes = [
            Route("/enter", self.enter),
            Route("/", self.page),
            WebSocketRoute("/chat", self.chat),
            Route("/events", self.events),
        ]
        return SessionAuthorityMiddleware(
            Starlette(routes=routes),
            lambda: AsyncSessionAuthority(address, timeout=PATIENCE, cache=NearCache()),
            Flow(cookies=Cookies(insecure=True)),
        )


@contextmanager
def serving(site: Site, address: str) -> Iterator[str]:
    """Serves the site in a thread. Yields its URL."""
    server = uvicorn.Server(
        uvicorn.Config(site.app(address), "localhost", site.port, ws="wsproto", log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the site to serve", SECONDS)
        yield f"http://localhost:{site.port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(SECONDS)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[DevServer]:
    """A development server of the real service."""
    with dev_server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chrome]:
    """Chromium with its own profile."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        missing("chromium")
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def test_a_sign_out_elsewhere_ends_the_websocket_and_the_event_stream(
    service: DevServer, chromium: Chrome
):
    site = Site()

    def told() -> list[str]:
        found: list[str] = chromium.execute_script("return window.told")
        return found

    with serving(site, service.address) as url:
        chromium.get(f"{url}/enter")
        chromium.get(f"{url}/")
        wait_for(lambda: {"chat hello", "event hello"} <= set(told()), "both to open", SECONDS)
        opened = site.opened
        with SessionAuthority(service.address, timeout=PATIENCE) as elsewhere:
            assert elsewhere.revoke_device("ada", site.session.device_id)
        wait_for(lambda: "stopped" in told(), "the stream to stop", SECONDS)
        wait_for(lambda: "closed 4401 session_ended" in told(), "the socket to close", SECONDS)
        assert told().count("again") == 1, "the browser requests the stream once more"
        assert site.opened == opened + 1, "the answer 401 stops the browser"
