"""Makes the responses that the middleware sends instead of an app's own responses, and defines the
exceptions that contain these responses. A program gets JSON with a code. A browser that navigates
is redirected, or gets a page if `_TEXTS` has a text for the code. No cache may store the responses
of this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from session_authority_client._shared.step_up import StepUp

_NO_STORE = ("Cache-Control", "no-store")
# The page looks like the sign-in pages in the examples of this project.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<link rel="icon" href="data:,">
<style>
    :root {{ color-scheme: light dark }}
    body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }}
    h1 {{ font-size: 1.5rem }}
</style>
<h1>{heading}</h1>
<p>{text}</p>
</html>
"""
# The texts of the pages for people. Each text has a heading, and sentences that say what to do
# next.
_TEXTS = {
    "unavailable": (
        "Please try again in a moment",
        (
            "We can't find out right now whether you are signed in. Wait a little, then"
            ' <a href="">try again</a>.'
        ),
    ),
    # This text has no link to the requested page, because a browser that loads this page again
    # would send the form again.
    "unavailable_for_form": (
        "That did not work",
        (
            "We can't find out right now whether you are signed in. Wait a little, then"
            ' <a href="/">go to the first page</a> and look whether what you sent has arrived.'
        ),
    ),
    "cross_origin_request": (
        "This came from another site",
        (
            'To keep you safe, nothing was done. <a href="/">Go to our own pages</a>, and try again'
            " from there."
        ),
    ),
    "insecure_cookies": (
        "This app can't be used at this address",
        (
            "It is set up for development, with cookies for http://localhost only. On the machine"
            ' that it runs on, open it at <a href="http://localhost/">http://localhost</a>, with'
            " the same port. To use it elsewhere, serve it over HTTPS, without"
            " <code>Cookies(insecure=True)</code>."
        ),
    ),
}
# The JSON with one of these codes also has a message, which explains the code to a developer.
_MESSAGES = {
    "insecure_cookies": (
        "insecure cookies are for http://localhost only: open the app there, or serve it over HTTPS"
        " without Cookies(insecure=True)"
    ),
}


@dataclass(frozen=True, slots=True)
class Response:
    """A response that the middleware sends instead of the app's own response."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def refusal(
    status: int,
    code: str,
    *headers: tuple[str, str],
    page: bool = False,
    text: str = "",
    more: Mapping[str, object] | None = None,
) -> Response:
    """Makes the response of a refusal: JSON with a code for programs, or a page for people.

    Args:
        status: The HTTP status.
        code: The reason for the refusal in one word, for programs.
        headers: Additional headers.
        page: True to make a page if `_TEXTS` has a text for the code.
        text: The key of the page's text in `_TEXTS`, if the key differs from the code.
        more: Additional fields of the JSON.
    """
    if page and code in _TEXTS:
        heading, sentences = _TEXTS[text or code]
        html = _PAGE.format(heading=heading, text=sentences)
        return _made(status, "text/html; charset=utf-8", html, headers)
    message = {"message": _MESSAGES[code]} if code in _MESSAGES else {}
    told = {"error": code, **message, **(more or {})}
    return _made(status, "application/json", json.dumps(told), headers)


def redirect(url: str) -> Response:
    """Makes a response that redirects a browser to another page."""
    return Response(303, (("Location", url), _NO_STORE), b"")


def _made(status: int, kind: str, text: str, headers: Sequence[tuple[str, str]]) -> Response:
    body = text.encode()
    described = (("Content-Type", kind), ("Content-Length", str(len(body))))
    return Response(status, (*described, *headers, _NO_STORE), body)


class Refused(Exception):
    """The request can't be served. `answer` is the response that the middleware sends to the
    client. `code` is the reason in one word.
    """

    def __init__(self, code: str, answer: Response) -> None:
        super().__init__(code)
        self.code = code
        self.answer = answer


class SignInRequired(Refused):
    """The request needs a valid session, but has none."""


class StepUpRequired(SignInRequired):
    """The request needs a sign-in that is more recent, or that used other methods. `wanted` says
    which sign-in is required. The session of the request stays valid.
    """

    def __init__(self, code: str, answer: Response, wanted: StepUp) -> None:
        super().__init__(code, answer)
        self.wanted = wanted


class NoAnswer(Refused):
    """The Session Authority gave no answer to a call that the app needs, or refused to say who is
    signed in.
    """


class CrossOrigin(Refused):
    """A page of another origin sent the request, and the request may change something or opens a
    WebSocket. The request did not reach the app or the Session Authority.
    """


class ReturnHop(Refused):
    """A browser comes from another site, so it did not send its strict cookies (`SameSite=Strict`).
    The browser must send the request again, from a page of this origin. The request without the
    strict cookies did not reach the app or the Session Authority.
    """


class InsecureHost(Refused, ValueError):
    """The app uses insecure cookies, but the host of the request is not the local machine. The
    local hosts are `localhost`, names that end in `.localhost`, 127.0.0.1 and [::1]. The request
    did not reach the app or the Session Authority.
    """

    def __str__(self) -> str:
        return "insecure cookies are for http://localhost only"
