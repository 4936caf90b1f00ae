"""A page for those who are signed in, with their devices on it: Django, in one file.

    pip install session-authority-client django gunicorn
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
from django.views.decorators.http import require_POST

from session_authority_client import (
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthority,
)
from session_authority_client.cookies import Cookies
from session_authority_client.django import require_session, visit_of
from session_authority_client.environment import credentials_from_environment
from session_authority_client.flow import Flow

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")

settings.configure(  # in a project of yours, this is settings.py
    MIDDLEWARE=["session_authority_client.django.SessionAuthorityMiddleware"],
    SESSION_AUTHORITY=lambda: SessionAuthority(AUTHORITY, **credentials_from_environment()),
    # Leave `cookies` out behind HTTPS: these are for http://localhost, and refused elsewhere.
    SESSION_AUTHORITY_FLOW=Flow(sign_in_url="/sign-in", cookies=Cookies(insecure=True)),
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()


@require_session
def my_devices(request: HttpRequest) -> HttpResponse:
    """The page of a user: the devices where the user is signed in."""
    visit = visit_of(request)
    devices = [
        (device, f"{device.last_seen_time:%d %b %Y, %H:%M} UTC") for device in visit.devices()
    ]
    return page(user=visit.require().user_id, devices=devices, done=request.GET.get("done"))


def sign_in(request: HttpRequest) -> HttpResponse:
    """Signs in the user that the form names. A page that wants a recent sign-in sends users here,
    too, who are signed in.
    """
    if request.method != "POST":
        visit = visit_of(request)
        again = visit.session if visit.requested_step_up() else None
        name = again.user_id if again else ""
        return page(again=again, name=name, remember=visit.remembered)
    form, visit = request.POST, visit_of(request)
    name, remember = form.get("user", "").strip(), "remember" in form
    # Your own proof of who it is goes here: a password, a passkey, OpenID Connect. This demo
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
    return see("/?done=password")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Signs the user out on the device whose button was pressed."""
    try:
        visit_of(request).sign_out(request.POST.get("device"))
    except InvalidRequest:  # no button names such a device
        return HttpResponse(status=400)
    return see("/?done=device")


@require_POST
def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    """Signs the user out on all devices but this one."""
    visit_of(request).sign_out_everywhere()
    return see("/?done=others")


def page(status: int = 200, **shown: object) -> HttpResponse:
    """The response: the form, or the devices of a user."""
    html = engines["django"].from_string(PAGE).render({"request_id": uuid4(), **shown})
    return HttpResponse(html, status=status, headers={"Cache-Control": "no-store"})


def see(url: str) -> HttpResponse:
    """Sends the browser to another page."""
    return HttpResponse(status=303, headers={"Location": url})


urlpatterns = [
    path("", my_devices),
    path("sign-in", sign_in),
    path("password", password),
    path("sign-out", sign_out),
    path("sign-out-everywhere", sign_out_everywhere),
]
application = WSGIHandler()

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% if changing %}New password{% elif user %}My devices{% else %}Sign in{% endif %}</title>
<link rel="icon" href="data:,">
<style>
    :root { color-scheme: light dark }
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }
    h1 { font-size: 1.5rem }
    h2 { font-size: 1.25rem }
    ul { padding: 0 }
    li { display: flex; gap: 1rem; align-items: center; justify-content: space-between;
        padding: 1rem 0; border-top: thin solid }
    label, small { display: block }
    input, button { font: inherit; box-sizing: border-box; max-width: 100%; min-height: 2.75rem;
        padding: 0 1rem }
    input { margin: 0 .25rem .5rem 0 }
    [type=checkbox] { min-height: 0 }
    li button { white-space: nowrap }
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
{% if done == "device" %}<p role="status">That device is signed out.</p>{% endif %}
{% if done == "others" %}<p role="status">All other devices are signed out.</p>{% endif %}
{% if done == "password" %}<p role="status">The password is changed.</p>{% endif %}
<h2>My devices</h2>
<ul>{% for device, seen in devices %}
    <li><span id="{{ device.device_id }}">{{ device.display_name }}
        {% if device.current %}<b>(this device)</b>{% endif %}
        <small>Last seen {{ seen }}</small></span>
        <form method="post" action="/sign-out">
            <button name="device" value="{{ device.device_id }}"
                aria-describedby="{{ device.device_id }}">Sign out</button>
        </form></li>{% endfor %}
</ul>
{% if devices|length > 1 %}
<form method="post" action="/sign-out-everywhere"><button>Sign out everywhere else</button></form>
{% endif %}
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
