"""A page for those who are signed in, with their devices on it: Django, in one file.

    pip install session-authority-client django gunicorn
    AUTHORITY=127.0.0.1:50051 gunicorn --threads 8 django_app:application

`session-authority dev` is an authority to try it with; then open http://localhost:8000. The password is "demo". In a project of
yours what `configure` is given stands in settings.py.
"""

import hmac
import os
import secrets

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

from session_authority_client import SessionAuthority
from session_authority_client.cookies import Cookies
from session_authority_client.django import require_session, visit_of
from session_authority_client.flow import Flow

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
FORM = "<form method=post><input name=user> <input name=password type=password> <button>Sign in</button></form>"
PAGE = """<h1>Hello {{ user }}</h1> <h2>My devices</h2> <ul>{% for device in devices %}
    <li>{{ device.display_name }}{% if device.current %} (this one){% endif %} <form method=post action=/sign-out>
        <button name=device value="{{ device.device_id }}">Sign out</button></form>{% endfor %}</ul>
    <form method=post action=/sign-out-everywhere><button>Sign out everywhere else</button></form>"""

settings.configure(
    ALLOWED_HOSTS=["localhost"],
    MIDDLEWARE=["session_authority_client.django.SessionAuthorityMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),
    SESSION_AUTHORITY=lambda: SessionAuthority(AUTHORITY),
    # Leave the cookies out behind HTTPS: these are for http://localhost, and refused elsewhere.
    SESSION_AUTHORITY_FLOW=Flow(cookies=Cookies(insecure=True), sign_in_url="/sign-in"),
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()


def sign_in(request: HttpRequest) -> HttpResponse:
    """A form. Put your own check of who it is here."""
    if request.method != "POST":
        return HttpResponse(FORM)
    if not hmac.compare_digest(request.POST.get("password", "").encode(), b"demo"):
        return see("/sign-in")
    visit_of(request).sign_in(request.POST.get("user", ""), auth_methods=["pwd"])
    return see("/")


@require_session
def my_devices(request: HttpRequest) -> HttpResponse:
    """The page."""
    visit = visit_of(request)
    page = engines["django"].from_string(PAGE)
    return HttpResponse(page.render({"user": visit.require().user_id, "devices": visit.devices()}, request))


def sign_out(request: HttpRequest) -> HttpResponse:
    """Here, or on the device whose button it was. Never for a mere link."""
    if request.method == "POST":
        visit_of(request).sign_out(request.POST.get("device"))
    return see("/")


def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    """On all devices but this one."""
    if request.method == "POST":
        visit_of(request).sign_out_everywhere()
    return see("/")


def see(url: str) -> HttpResponse:
    """Sends the browser there."""
    return HttpResponse(status=303, headers={"Location": url})


urlpatterns = (
    path("", my_devices),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("sign-out-everywhere", sign_out_everywhere),
)
application = WSGIHandler()
