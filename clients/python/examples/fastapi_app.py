"""A page for those who are signed in, with their devices on it: FastAPI.

    pip install "session-authority-client[devices]" fastapi jinja2 uvicorn
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
from session_authority_client.devices import DevicesPage
from session_authority_client.environment import credentials_from_environment
from session_authority_client.flow import Flow
from session_authority_client.starlette import (
    AsyncVisit,
    require_session,
    require_step_up,
    visit_of,
)

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
# Behind HTTPS, leave `cookies` out: these cookies work at http://localhost only.
DEVICES = DevicesPage(path="/devices", secure_account_url="/password")
FLOW = Flow(sign_in_url="/sign-in", devices=DEVICES, cookies=Cookies(insecure=True))

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
async def first_page(session: SignedIn, done: str = "") -> Response:
    """The first page of a user."""
    return page(user=session.user_id, done=done)


@app.get("/sign-in")
async def ask(visit: Visit) -> Response:
    """The sign-in form. A page that wants a recent sign-in sends signed-in users here, too."""
    again = visit.session if visit.requested_step_up() else None
    return page(again=again, name=again.user_id if again else "", remember=visit.remembered)


@app.post("/sign-in")
async def sign_in(visit: Visit, request: Request) -> Response:
    """Signs in the user that the form names."""
    form = await form_of(request)
    name, remember = form.get("user", "").strip(), "remember" in form
    # Your own check of the user goes here: a password, a passkey, OpenID Connect. This demo
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
async def change_password(visit: Visit, session: SignedInRecently) -> Response:
    """Changes the password of the user."""
    # Your own change goes here.
    return RedirectResponse(visit.next_path("/?done=password"), 303)


def page(status: int = 200, **shown: object) -> Response:
    """The response: a form, or the first page of a user."""
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
