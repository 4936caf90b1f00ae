"""The examples, as one runs them: each is served by its server, and used as a person with two browsers would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from session_authority_client.testing import FakeAuthority
from tests.support.backends import free_port, wait_for

ROOT = Path(__file__).parents[2]
PATIENCE = 40.0  # seconds
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "fastapi": ("uvicorn", "fastapi_app:app", "--port"),
    "flask": ("gunicorn", "--threads", "8", "flask_app:app", "--bind"),
    "django": ("gunicorn", "--threads", "8", "django_app:application", "--bind"),
}


@contextmanager
def served(name: str, folder: Path, authority: str) -> Iterator[str]:
    """The example's URL."""
    port = free_port()
    where = str(port) if name == "fastapi" else f"127.0.0.1:{port}"
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[name], where],
            cwd=ROOT / "examples",
            env={**os.environ, "AUTHORITY": authority, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    url = f"http://localhost:{port}"

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/sign-in", timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, f"{name} to serve", PATIENCE)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_each_example_is_run():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {f"{name}_app" for name in COMMANDS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_my_devices(tmp_path: Path, name: str):
    with (
        FakeAuthority() as authority,
        served(name, tmp_path, authority.address) as url,
        httpx.Client(base_url=url, follow_redirects=True, timeout=PATIENCE) as laptop,
        httpx.Client(base_url=url, follow_redirects=True, timeout=PATIENCE) as phone,
    ):
        assert laptop.get("/").url.path == "/sign-in"
        wrong = laptop.post("/sign-in", data={"user": "ada", "password": "wrong"})
        assert (wrong.url.path, dict(laptop.cookies)) == ("/sign-in", {})
        for browser in (laptop, phone):
            page = browser.post("/sign-in", data={"user": "<ada>", "password": "demo"})
            assert page.url.path == "/"
            assert "<h1>Hello &lt;ada&gt;</h1>" in page.text
        assert page.text.count("(this one)") == 1
        assert page.text.count("Unknown device") == 2

        mine = phone.cookies["device"]
        (theirs,) = set(re.findall(r'value="?([0-9a-f-]{36})', page.text)) - {mine}
        phone.post("/sign-out", data={"device": theirs})
        assert laptop.get("/").url.path == "/sign-in"
        laptop.post("/sign-in", data={"user": "<ada>", "password": "demo"})
        assert laptop.cookies["device"] == theirs  # it is no new device
        authority.expire_tokens()
        assert phone.post("/sign-out-everywhere").url.path == "/"
        assert laptop.get("/").url.path == "/sign-in"
        with authority.unavailable():
            assert phone.get("/").status_code == 503
        assert phone.post("/sign-out").url.path == "/sign-in"
        assert list(phone.cookies) == ["device"]
