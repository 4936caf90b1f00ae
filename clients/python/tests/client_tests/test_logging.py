"""Log lines are visible even if a project configures logging after it has imported the client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from session_authority_client._shared.throttled_log import ThrottledLog

# The settings of a project import the client. Then Django configures logging, and disables all
# existing loggers. Nothing listens on the port.
PROJECT = """
import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from session_authority_client import SessionAuthority
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow

settings.configure(
    MIDDLEWARE=["session_authority_client.django.SessionAuthorityMiddleware"],
    SESSION_AUTHORITY=lambda: SessionAuthority("127.0.0.1:1"),
    SESSION_AUTHORITY_FLOW=Flow(cookies=Cookies(insecure=True)),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGGING={"version": 1, "disable_existing_loggers": True},
)
django.setup()
urlpatterns = [path("", lambda request: HttpResponse(request.visit.require().user_id))]
for host, cookies in (("192.0.2.7", {}), ("localhost", {"session": "a.b.c", "device": "d"})):
    client = Client(headers={"host": host})
    client.cookies.load(cookies)
    for _ in range(3):
        print(client.get("/").status_code)
"""


def test_a_django_project_sees_one_log_line_for_each_state():
    done = subprocess.run(
        [sys.executable, "-c", PROJECT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.split() == ["400"] * 3 + ["503"] * 3
    lines = [line for line in done.stderr.splitlines() if "Authority" in line or "host" in line]
    assert [line.count("insecure cookies are for") for line in lines] == [1, 0]
    assert "gives no answer" in lines[1]
    assert "UNAVAILABLE" in lines[1]


def test_a_state_that_lasts_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture):
    now = [1000.0]
    log = ThrottledLog(lambda: now[0])
    for seconds, lines in ((0, 1), (1, 1), (58.9, 1), (0.2, 2), (59, 2), (3600, 3)):
        now[0] += seconds
        log.error("away: %s", "reason")
        assert len(caplog.records) == lines
    log.error("another")
    assert [record.getMessage() for record in caplog.records][2:] == ["away: reason", "another"]
