"""A page for those who are signed in, with their devices on it: Django, in one file.

    pip install "session-authority-client[devices]" django gunicorn
    AUTHORITY=127.0.0.1:50051 gunicorn --threads 8 django_app:application

`session-authority dev` is an authority to try it with; then open http://localhost:8000.
"""

import os
import secrets
from datetime import timedelta
from uuid import uuid4

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

from session_authority_client import (
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthority,
)
from session_authority_client.cookies import Cookies
from session_authority_client.devices import DevicesPage
from session_authority_client.django import require_session, visit_of
from session_authority_client.environment import credentials_from_environment
from session_authority_client.flow import Flow

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
DEVICES = DevicesPage(path="/devices", secure_account_url="/password")

settings.configure(  # in a project of yours, this is settings.py
    MIDDLEWARE=["session_authority_client.django.SessionAuthorityMiddleware"],
    SESSION_AUTHORITY=lambda: SessionAuthority(AUTHORITY, **credentials_from_environment()),
    # Behind HTTPS, leave `cookies` out: these cookies work at http://localhost only.
    SESSION_AUTHORITY_FLOW=Flow(
        sign_in_url="/sign-in", devices=DEVICES, cookies=Cookies(insecure=True)
    ),
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()


@require_session
def first_page(request: HttpRequest) -> HttpResponse:
    """The first page of a user."""
    return page(user=visit_of(request).require().user_id, done=request.GET.get("done"))


def sign_in(request: HttpRequest) -> HttpResponse:
    """Signs in the user that the form names. A page that wants a recent sign-in sends signed-in
    users here, too.
    """
    if request.method != "POST":
        visit = visit_of(request)
        again = visit.session if visit.requested_step_up() else None
        name = again.user_id if again else ""
        return page(again=again, name=name, remember=visit.remembered)
    form, visit = request.POST, visit_of(request)
    name, remember = form.get("user", "").strip(), "remember" in form
    # Your own check of the user goes here: a password, a passkey, OpenID Connect. This demo
    # believes every name.
    try:
        visit.sign_in(name, request_id=form.get("request_id"), remember=remember)
    except (RequestIdReused, RequestIdSpent):  # this form has signed somebody in before
        return see(visit.next_path())
    except InvalidRequest as error:  # the name is empty, or far too long
        problem = ", ".join(rule.description for rule in error.violations)
        return page(400, name=name, remember=remember, problem=problem)
    return see(visit.next_path())


@require_session(max_age=timedelta(minutes=5))
def password(request: HttpRequest) -> HttpResponse:
    """Changes the password of a user who signed in a moment ago."""
    if request.method != "POST":
        return page(user=visit_of(request).require().user_id, changing=True)
    # Your own change goes here.
    return see(visit_of(request).next_path("/?done=password"))


def page(status: int = 200, **shown: object) -> HttpResponse:
    """The response: a form, or the first page of a user."""
    html = engines["django"].from_string(PAGE).render({"request_id": uuid4(), **shown})
    return HttpResponse(html, status=status, headers={"Cache-Control": "no-store"})


def see(url: str) -> HttpResponse:
    """Sends the browser to another page."""
    return HttpResponse(status=303, headers={"Location": url})


urlpatterns = [
    path("", first_page),
    path("sign-in", sign_in),
    path("password", password),
]
application = WSGIHandler()

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% if changing %}New password{% elif user %}Hello{% else %}Sign in{% endif %}</title>
<link rel="icon" href="data:,">
<style>
    :root { color-scheme: light dark }
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }
    h1 { font-size: 1.5rem }
    label, small { display: block }
    input, button { font: inherit; box-sizing: border-box; max-width: 100%; min-height: 2.75rem;
        padding: 0 1rem }
    input { margin: 0 .25rem .5rem 0 }
    [type=checkbox] { min-height: 0 }
    [role] { border-left: .25rem solid; padding-left: .75rem }
</style>
<script>
    // Browsers may keep a page for the way back, whatever its headers say. After a sign-out it
    // must not be shown again.
    addEventListener("pageshow", (event) => event.persisted && location.reload());
</script>
{% if changing %}
<h1>New password</h1>
<form method="post">
    <label for="password">The new password of {{ user }}</label>
    <input id="password" name="password" type="password" autocomplete="new-password" required
        autofocus>
    <button>Change</button>
</form>
<p><small>This demo has no passwords. It shows that you signed in a moment ago.</small></p>
{% elif user %}
<h1>Hello {{ user }}</h1>
{% if done == "password" %}<p role="status">The password is changed.</p>{% endif %}
<p><a href="/devices">Your devices</a></p>
<p><a href="/password">Change the password</a></p>
{% else %}
<h1>Sign in</h1>
{% if again %}<p role="status">To go on, sign in again.</p>{% endif %}
{% if problem %}<p role="alert" id="problem">The name {{ problem }}.</p>{% endif %}
<form method="post">
    <input type="hidden" name="request_id" value="{{ request_id }}">
    <label for="user">Name</label>
    <input id="user" name="user" value="{{ name }}" autocomplete="username" required autofocus
        {% if problem %}aria-invalid="true" aria-describedby="problem"{% endif %}>
    <label><input type="checkbox" name="remember"
        {% if remember or not problem and not again %}checked{% endif %}> Keep me signed in</label>
    <button>Sign in</button>
</form>
<p><small>This demo takes your word for it. The app's own proof goes here: a password, a passkey,
    OpenID Connect.</small></p>
{% endif %}
"""
