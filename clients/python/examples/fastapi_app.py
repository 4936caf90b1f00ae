"""A page for those who are signed in, with their devices on it: FastAPI.

    pip install session-authority-client fastapi uvicorn
    AUTHORITY=127.0.0.1:50051 uvicorn fastapi_app:app

`session-authority dev` is an authority to try it with; then open http://localhost:8000. The password is "demo".
"""

import hmac
import os
from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from session_authority_client import AsyncSessionAuthority, Device
from session_authority_client.asgi import SessionAuthorityMiddleware
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow
from session_authority_client.starlette import AsyncVisit, require_session, visit_of

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
# Leave the cookies out behind HTTPS: these are for http://localhost, and refused elsewhere.
FLOW = Flow(cookies=Cookies(insecure=True), sign_in_url="/sign-in")

app = FastAPI()
app.add_middleware(SessionAuthorityMiddleware, authority=lambda: AsyncSessionAuthority(AUTHORITY), flow=FLOW)
Visit = Annotated[AsyncVisit, Depends(visit_of)]


@app.get("/sign-in", response_class=HTMLResponse)
async def ask() -> str:
    """A form."""
    return page(
        "Sign in",
        """<form method=post>
        <p><label>Name <input name=user autocomplete=username required autofocus></label>
        <p><label>Password <input name=password type=password autocomplete=current-password required></label>
        <p><button>Sign in</button></form>""",
    )


@app.post("/sign-in")
async def sign_in(visit: Visit, request: Request) -> Response:
    """Put your own check of who it is here."""
    form = await form_of(request)
    if not hmac.compare_digest(form.get("password", "").encode(), b"demo"):
        return RedirectResponse("/sign-in", 303)
    await visit.sign_in(form.get("user", ""), auth_methods=["pwd"])
    return RedirectResponse("/", 303)


@app.get("/", response_class=HTMLResponse, dependencies=[Depends(require_session)])
async def my_devices(visit: Visit, response: Response) -> str:
    """Who is signed in, and where else."""
    response.headers["Cache-Control"] = "no-store"  # see `page`, too: what was shown must not outlast the session
    items = "".join(item(device) for device in await visit.devices())
    return page(
        f"Hello {escape(visit.require().user_id)}",
        f"""<h2>My devices</h2> <ul>{items}</ul>
        <form method=post action=/sign-out-everywhere><button>Sign out everywhere else</button></form>""",
    )


def page(title: str, body: str) -> str:
    """All around it. The script: after a sign-out the way back leads to a page that browsers kept, `no-store` or not."""
    return f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
        <title>{title}</title><link rel=icon href=data:,>
        <style>
            body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto; padding: 0 1rem }}
            ul {{ padding: 0 }}
            li {{ display: flex; gap: 1rem; align-items: center; padding: .5rem 0; border-bottom: 1px solid #ccc }}
            li span {{ flex: 1 }}
            label {{ display: block }}
            input, button {{ font: inherit; padding: .25rem .75rem }}
        </style>
        <script>addEventListener("pageshow", (event) => event.persisted && location.reload())</script>
        <h1>{title}</h1> {body}"""


def item(device: Device) -> str:
    """A device, and a button to sign out there."""
    where = " (this one)" if device.current else ""
    device_id = escape(device.device_id)
    return f"""<li><span id={device_id}>{escape(device.display_name)}{where}</span> <form method=post action=/sign-out>
        <button name=device value={device_id} aria-describedby={device_id}>Sign out</button></form>"""


@app.post("/sign-out")
async def sign_out(visit: Visit, request: Request) -> Response:
    """Here, or on the device whose button it was."""
    await visit.sign_out((await form_of(request)).get("device"))
    return RedirectResponse("/", 303)


@app.post("/sign-out-everywhere")
async def sign_out_everywhere(visit: Visit) -> Response:
    """On all devices but this one."""
    await visit.sign_out_everywhere()
    return RedirectResponse("/", 303)


async def form_of(request: Request) -> dict[str, str]:
    """What a form sent."""
    return {name: values[-1] for name, values in parse_qs((await request.body()).decode()).items()}
