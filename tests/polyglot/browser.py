"""A browser for the testee's app. It keeps cookies, and the last cookie of a name wins."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

from tests.polyglot.testee import Testee

_HEADERS = [
    ["accept", "text/html,application/xhtml+xml,*/*;q=0.8"],
    ["user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
]
_FORM = [
    ["content-type", "application/x-www-form-urlencoded"],
    ["origin", "http://localhost"],
    ["sec-fetch-site", "same-origin"],
]


class Browser:
    """The browser's cookies, and its requests through the middleware of the testee's client `a`."""

    def __init__(self, testee: Testee, jar: dict[str, str] | None = None) -> None:
        self._testee = testee
        self.jar = dict(jar or {})

    def copy(self) -> Browser:
        """A copy of the browser: another tab, which sent its request before the answer to this one
        arrived.
        """
        return Browser(self._testee, self.jar)

    async def request(self, method: str, path: str, body: str = "") -> Any:
        """Makes a request with the cookies that are kept now."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        headers = [*_HEADERS, *([["cookie", cookies]] if cookies else [])]
        answer = await self._testee.do(
            "http",
            client="a",
            method=method,
            path=path,
            headers=[*headers, *(_FORM if method == "POST" else [])],
            body=body,
        )
        for name, value in answer["headers"]:
            if name.lower() == "set-cookie":
                self._keep(value)
        return answer

    async def sign_in(self, user: str) -> None:
        """Signs in by the form."""
        answer = await self.request("POST", "/sign-in", f"user={user}")
        assert answer["status"] == 303, answer

    async def status(self) -> int:
        """The status of the page that requires a session."""
        status: int = (await self.request("GET", "/private"))["status"]
        return status

    def _keep(self, line: str) -> None:
        for name, cookie in SimpleCookie(line).items():
            if cookie["max-age"] == "0":
                self.jar.pop(name, None)
            else:
                self.jar[name] = cookie.value
