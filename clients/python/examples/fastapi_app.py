"""A page for those who are signed in, with their devices on it: FastAPI.

    pip install session-authority-client fastapi jinja2 uvicorn
    AUTHORITY=127.0.0.1:50051 uvicorn fastapi_app:app

`session-authority dev` is an authority to try it with; then open http://localhost:8000.
"""

import os
from datetime import timedelta
from typing import Annotated
from urllib.parse import parse_qs
from uuid import uuid4

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment

from session_authority_client import (
    AsyncSessionAuthority,
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
    Session,
)
from session_authority_client.asgi import SessionAuthorityMiddleware
from session_authority_client.cookies import Cookies
from session_authority_client.environment import credentials_from_environment
from session_authority_client.flow import Flow
from session_authority_client.starlette import (
    AsyncVisit,
    require_session,
    require_step_up,
    visit_of,
)

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
# Leave `cookies` out behind HTTPS: these are for http://localhost, and refused elsewhere.
FLOW = Flow(sign_in_url="/sign-in", cookies=Cookies(insecure=True))

app = FastAPI()
app.add_middleware(
    SessionAuthorityMiddleware,
    authority=lambda: AsyncSessionAuthority(AUTHORITY, **credentials_from_environment()),
    flow=FLOW,
)
Visit = Annotated[AsyncVisit, Depends(visit_of)]
SignedIn = Annotated[Session, Depends(require_session)]
SignedInRecently = Annotated[Session, Depends(require_step_up(max_age=timedelta(minutes=5)))]


@app.get("/")
async def my_devices(visit: Visit, session: SignedIn, done: str = "") -> Response:
    """The page of a user: the devices where the user is signed in."""
    devices = [
        (device, f"{device.last_seen_time:%d %b %Y, %H:%M} UTC") for device in await visit.devices()
    ]
    return page(user=session.user_id, devices=devices, done=done)


@app.get("/sign-in")
async def ask(visit: Visit) -> Response:
    """The form for signing in. A page that wants a recent sign-in sends users here, too, who are
    signed in.
    """
    again = visit.session if visit.requested_step_up() else None
    return page(again=again, name=again.user_id if again else "", remember=visit.remembered)


@app.post("/sign-in")
async def sign_in(visit: Visit, request: Request) -> Response:
    """Signs in the user that the form names."""
    form = await form_of(request)
    name, remember = form.get("user", "").strip(), "remember" in form
    # Your own proof of who it is goes here: a password, a passkey, OpenID Connect. This demo
    # believes every name.
    try:
        await visit.sign_in(name, request_id=form.get("request_id"), remember=remember)
    except (RequestIdReused, RequestIdSpent):  # this form has signed somebody in before
        return RedirectResponse(visit.next_path(), 303)
    except InvalidRequest as error:  # the name is empty, or far too long
        problem = ", ".join(rule.description for rule in error.violations)
        return page(400, name=name, remember=remember, problem=problem)
    return RedirectResponse(visit.next_path(), 303)


@app.get("/password")
async def ask_for_password(session: SignedInRecently) -> Response:
    """The form for a new password, for users who signed in a moment ago."""
    return page(user=session.user_id, changing=True)


@app.post("/password")
async def change_password(session: SignedInRecently) -> Response:
    """Changes the password of the user."""
    # Your own change goes here.
    return RedirectResponse("/?done=password", 303)


@app.post("/sign-out")
async def sign_out(visit: Visit, request: Request) -> Response:
    """Signs the user out on the device whose button was pressed."""
    try:
        await visit.sign_out((await form_of(request)).get("device"))
    except InvalidRequest:  # no button names such a device
        return Response(status_code=400)
    return RedirectResponse("/?done=device", 303)


@app.post("/sign-out-everywhere")
async def sign_out_everywhere(visit: Visit) -> Response:
    """Signs the user out on all devices but this one."""
    await visit.sign_out_everywhere()
    return RedirectResponse("/?done=others", 303)


def page(status: int = 200, **shown: object) -> Response:
    """The response: the form, or the devices of a user."""
    html = Environment(autoescape=True).from_string(PAGE).render(request_id=uuid4(), **shown)
    return HTMLResponse(html, status, {"Cache-Control": "no-store"})


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. FastAPI's own way needs another package."""
    return {
        name: values[-1]
        for name, values in parse_qs((await request.body()).decode(errors="replace")).items()
    }


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
