"""A page for those who are signed in, with their devices on it: Flask.

    pip install "session-authority-client[devices]" flask gunicorn
    AUTHORITY=127.0.0.1:50051 gunicorn --threads 8 flask_app:app

`session-authority dev` is an authority to try it with; then open http://localhost:8000.
"""

import os
from datetime import timedelta
from uuid import uuid4

from flask import Flask, make_response, redirect, render_template_string, request
from werkzeug import Response

from session_authority_client import (
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthority,
)
from session_authority_client.cookies import Cookies
from session_authority_client.devices import DevicesPage
from session_authority_client.environment import credentials_from_environment
from session_authority_client.flask import install, require_session, visit
from session_authority_client.flow import Flow

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
# Behind HTTPS, leave `cookies` out: these cookies work at http://localhost only.
DEVICES = DevicesPage(path="/devices", secure_account_url="/password")
FLOW = Flow(sign_in_url="/sign-in", devices=DEVICES, cookies=Cookies(insecure=True))

app = Flask(__name__)
install(app, lambda: SessionAuthority(AUTHORITY, **credentials_from_environment()), FLOW)


@app.get("/")
@require_session
def first_page() -> Response:
    """The first page of a user."""
    return page(user=visit().require().user_id, done=request.args.get("done"))


@app.get("/sign-in")
def ask() -> Response:
    """The sign-in form. A page that wants a recent sign-in sends signed-in users here, too."""
    again = visit().session if visit().requested_step_up() else None
    return page(again=again, name=again.user_id if again else "", remember=visit().remembered)


@app.post("/sign-in")
def sign_in() -> Response:
    """Signs in the user that the form names."""
    form = request.form
    name, remember = form.get("user", "").strip(), "remember" in form
    # Your own check of the user goes here: a password, a passkey, OpenID Connect. This demo
    # believes every name.
    try:
        visit().sign_in(name, request_id=form.get("request_id"), remember=remember)
    except (RequestIdReused, RequestIdSpent):  # this form has signed somebody in before
        return redirect(visit().next_path(), 303)
    except InvalidRequest as error:  # the name is empty, or far too long
        problem = ", ".join(rule.description for rule in error.violations)
        return page(400, name=name, remember=remember, problem=problem)
    return redirect(visit().next_path(), 303)


@app.get("/password")
@require_session(max_age=timedelta(minutes=5))
def ask_for_password() -> Response:
    """The form for a new password, for users who signed in a moment ago."""
    return page(user=visit().require().user_id, changing=True)


@app.post("/password")
@require_session(max_age=timedelta(minutes=5))
def change_password() -> Response:
    """Changes the password of the user."""
    # Your own change goes here.
    return redirect(visit().next_path("/?done=password"), 303)


def page(status: int = 200, **shown: object) -> Response:
    """The response: a form, or the first page of a user."""
    return make_response(
        render_template_string(PAGE, request_id=uuid4(), **shown),
        status,
        {"Cache-Control": "no-store"},
    )


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
