"""A page for those who are signed in, with their devices on it: Flask.

    pip install session-authority-client flask gunicorn
    AUTHORITY=127.0.0.1:50051 gunicorn --threads 8 flask_app:app

`session-authority dev` is an authority to try it with; then open http://localhost:8000. The password is "demo".
"""

import hmac
import os

from flask import Flask, redirect, render_template_string, request
from werkzeug.wrappers import Response

from session_authority_client import SessionAuthority
from session_authority_client.cookies import Cookies
from session_authority_client.flask import install, require_session, visit
from session_authority_client.flow import Flow

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
# Leave the cookies out behind HTTPS: these are for http://localhost, and refused elsewhere.
FLOW = Flow(cookies=Cookies(insecure=True), sign_in_url="/sign-in")
FORM = "<form method=post><input name=user> <input name=password type=password> <button>Sign in</button></form>"
PAGE = """<h1>Hello {{ user }}</h1> <h2>My devices</h2> <ul>{% for device in devices %}
    <li>{{ device.display_name }}{{ " (this one)" if device.current }} <form method=post action=/sign-out>
        <button name=device value="{{ device.device_id }}">Sign out</button></form>{% endfor %}</ul>
    <form method=post action=/sign-out-everywhere><button>Sign out everywhere else</button></form>"""

app = Flask(__name__)
install(app, lambda: SessionAuthority(AUTHORITY), FLOW)


@app.get("/sign-in")
def ask() -> str:
    """A form."""
    return FORM


@app.post("/sign-in")
def sign_in() -> Response:
    """Put your own check of who it is here."""
    if not hmac.compare_digest(request.form.get("password", "").encode(), b"demo"):
        return redirect("/sign-in", 303)
    visit().sign_in(request.form.get("user", ""), auth_methods=["pwd"])
    return redirect("/", 303)


@app.get("/")
@require_session
def my_devices() -> str:
    """The page."""
    return render_template_string(PAGE, user=visit().require().user_id, devices=visit().devices())


@app.post("/sign-out")
def sign_out() -> Response:
    """Here, or on the device whose button it was."""
    visit().sign_out(request.form.get("device"))
    return redirect("/", 303)


@app.post("/sign-out-everywhere")
def sign_out_everywhere() -> Response:
    """On all devices but this one."""
    visit().sign_out_everywhere()
    return redirect("/", 303)
