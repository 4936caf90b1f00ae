"""The whole flow: uvicorn and gunicorn with several processes, and the real service."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from session_authority.tokens import KeySource, Tokens
from session_authority_client import SessionAuthority, SessionStatus
from tests.support.dev import dev_server, start_dev_server
from tests.support.ports import free_port
from tests.support.waiting import wait_for

HERE = Path(__file__).parent
PATIENCE = 40.0  # seconds
REQUESTS = 1000
TOKEN, DEVICE = "__Host-session", "__Host-device"
# Short, so that a token is soon old enough to be renewed.
ALARM_AFTER = timedelta(seconds=5)
SETTINGS = {
    "SESSION_AUTHORITY_GRACE": "5s",
    "SESSION_AUTHORITY_DURABLE_AFTER": "0s",
    "SESSION_AUTHORITY_ALARM_AFTER": "5s",
}
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn", "apps:asgi", "--workers", "2", "--no-access-log", "--port"),
    "gunicorn": ("gunicorn", "apps:wsgi", "--workers", "2", "--threads", "16", "--bind"),
}


@contextmanager
def served(server: str, folder: Path, authority: str, timeout: float) -> Iterator[str]:
    """Serves the app in a process of its own. Yields the app's URL."""
    port = free_port()
    where = str(port) if server == "uvicorn" else f"127.0.0.1:{port}"
    path = os.pathsep.join((str(HERE), str(HERE.parent.parent)))
    with (folder / f"{server}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[server], where],
            env={**os.environ, "AUTHORITY": authority, "TIMEOUT": str(timeout), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / f"{server}.log").read_text()
        try:
            return httpx.get(f"{url}/open", timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, f"{server} to serve", PATIENCE)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Browser:
    """A browser that keeps cookies as over HTTPS: the last value of a cookie wins."""

    url: str
    http: httpx.AsyncClient
    jar: dict[str, str] = field(default_factory=dict)

    async def request(self, method: str, path: str) -> httpx.Response:
        """Sends a request with the cookies that are in the jar now."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        answer = await self.http.request(method, f"{self.url}{path}", headers={"cookie": cookie})
        self.jar.update(set_cookies(answer))
        return answer


def set_cookies(answer: httpx.Response) -> dict[str, str]:
    """The cookies that a response sets."""
    lines = answer.headers.get_list("set-cookie")
    pairs = [line.partition(";")[0].partition("=") for line in lines]
    return {name: value for name, _, value in pairs}


def aged(token: str, data_dir: Path, age: timedelta) -> str:
    """The same token as if it had been made `age` ago, with a lifetime of an hour."""
    tokens = Tokens(
        KeySource(data_dir / "keys"), "session-authority", "session-authority", timedelta(days=8)
    )
    now = datetime.now(UTC)
    known = tokens.verify(token, now)
    assert known is not None
    return tokens.sign(
        replace(known, issued_at=now - age, expires_at=now - age + timedelta(hours=1))
    )


def generation(token: str) -> int:
    """The generation that a token contains."""
    payload = token.split(".")[1]
    number: int = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["gen"]
    return number


@dataclass(frozen=True)
class Served:
    """The app and the service behind it. Its users signed in more than ALARM_AFTER ago."""

    url: str
    client: SessionAuthority
    data_dir: Path
    jars: Mapping[str, Mapping[str, str]]

    def browser(self, user: str, http: httpx.AsyncClient, age: timedelta) -> Browser:
        """The user's browser. Its token is `age` old, and can be renewed."""
        jar = dict(self.jars[user])
        jar[TOKEN] = aged(jar[TOKEN], self.data_dir, age)
        return Browser(self.url, http, jar)

    def generation(self, browser: Browser) -> int | None:
        """The generation of the session in a browser, as the service knows it."""
        jar = browser.jar
        found = self.client.validate_session(jar[TOKEN], jar[DEVICE], observe_only=True)
        return found.session.generation if found.session else None


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with (
        dev_server(folder / "data", SETTINGS) as dev,
        served(request.param, folder, dev.address, PATIENCE) as url,
        SessionAuthority(dev.address, timeout=timedelta(seconds=PATIENCE)) as client,
    ):
        jars = {}
        for user in ("ada", "bob"):
            answer = httpx.post(f"{url}/sign-in?{user}", timeout=PATIENCE)
            jars[user] = set_cookies(answer)
        signed_in = datetime.now(UTC)
        wait_for(
            lambda: datetime.now(UTC) - signed_in > ALARM_AFTER, "the tokens to settle", PATIENCE
        )
        yield Served(url, client, folder / "data", jars)


async def test_a_thousand_parallel_requests_renew_once_and_sign_nobody_out(app: Served):
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=PATIENCE * 2) as http:
        browser = app.browser("ada", http, timedelta(hours=2))
        observed = app.client.validate_session(
            browser.jar[TOKEN], browser.jar[DEVICE], observe_only=True
        )
        assert observed.status is SessionStatus.TOKEN_EXPIRED

        parallel = [Browser(app.url, http, dict(browser.jar)) for _ in range(REQUESTS)]
        answers = await asyncio.gather(*(one.request("GET", "/me") for one in parallel))

        assert {answer.status_code for answer in answers} == {200}
        assert {generation(one.jar[TOKEN]) for one in parallel} == {2}
        browser.jar = parallel[-1].jar
        for _ in range(20):
            again = await browser.request("GET", "/me")
            assert (again.status_code, again.json()) == (200, {"user": "ada"})
        assert app.generation(browser) == 2
        assert [listed.signed_in for listed in app.client.devices("ada")] == [True]


async def test_a_page_with_many_parts_renews_an_old_token_once(app: Served):
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        browser = app.browser("bob", http, timedelta(minutes=45))
        connections = asyncio.Semaphore(6)

        async def part() -> int:
            async with connections:  # each part sends the cookies that the parts before it brought
                return (await browser.request("GET", "/me")).status_code

        assert set(await asyncio.gather(*(part() for _ in range(100)))) == {200}
        assert generation(browser.jar[TOKEN]) == 2
        assert [listed.signed_in for listed in app.client.devices("bob")] == [True]


@pytest.mark.parametrize("server", sorted(COMMANDS))
async def test_while_the_service_is_away_the_app_answers_503_and_never_401(
    tmp_path: Path, server: str
):
    dev = start_dev_server(tmp_path / "data", SETTINGS)
    port = int(dev.address.rpartition(":")[2])
    try:
        with served(server, tmp_path, dev.address, 1.0) as url:
            async with httpx.AsyncClient(timeout=PATIENCE) as http:
                browser = Browser(url, http)

                async def status() -> int:
                    return (await browser.request("GET", "/me")).status_code

                async def recovered() -> None:
                    async with asyncio.timeout(PATIENCE):
                        while (now := await status()) != 200:
                            assert now == 503

                async def away() -> None:
                    async with asyncio.timeout(PATIENCE):
                        while (now := await status()) != 503:
                            assert now == 200  # the service answered before it went away

                async with asyncio.timeout(PATIENCE):
                    while (await browser.request("POST", "/sign-in")).status_code != 200:
                        pass
                jar = dict(browser.jar)
                await recovered()

                # the service hangs, and closes no connection
                os.killpg(dev.process.pid, signal.SIGSTOP)
                await away()
                answer = await browser.request("GET", "/me")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert (await browser.request("GET", "/open")).status_code == 200
                os.killpg(dev.process.pid, signal.SIGCONT)
                await recovered()

                dev.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(dev.process.wait, PATIENCE)
                await away()
                dev = await asyncio.to_thread(start_dev_server, tmp_path / "data", SETTINGS, port)
                await recovered()
                assert browser.jar == jar
    finally:
        os.killpg(dev.process.pid, signal.SIGCONT)
        dev.process.send_signal(signal.SIGTERM)
        dev.process.wait(PATIENCE)
