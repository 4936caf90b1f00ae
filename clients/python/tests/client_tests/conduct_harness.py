"""Plays one case of `conduct`: a request through the middleware, with a service and an app that
behave as the case says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from client_tests.vectors import Case, error_of_kind, flow_of
from session_authority_client import (
    ClientInfo,
    Device,
    FormFactor,
    IssuedDevice,
    Renewal,
    Session,
    SessionStatus,
    Validation,
)
from session_authority_client.asgi import SessionAuthorityMiddleware as AsgiMiddleware
from session_authority_client.wsgi import SessionAuthorityMiddleware as WsgiMiddleware
from session_authority_client.wsgi import visit_of

SERVED = b"served"
COMPARED = {
    *("accept-ch", "cache-control", "clear-site-data", "content-security-policy", "content-type"),
    *("location", "retry-after", "vary", "www-authenticate"),
}
_Pairs = list[tuple[str, str]]


def at(seconds: float | None) -> Any:
    """Converts a time of a case. Returns None if the case names no time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def session_of(said: Mapping[str, Any] | None) -> Session | None:
    """Returns the session in an answer of the case, or None if the answer has none."""
    if said is None:
        return None
    ends = (at(said[end]) for end in ("token_expires_at", "expires_at", "absolute_expires_at"))
    return Session(
        said["user_id"],
        said["device_id"],
        said["session_id"],
        1,
        {},
        said["auth_methods"],
        at(said["sign_in_at"]),
        *ends,
    )


class Service:
    """A synchronous client whose service answers as the case says."""

    timeout = timedelta(seconds=1)

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers
        self.calls: list[dict[str, Any]] = []

    def _answer(self, method: str, **request: Any) -> Mapping[str, Any]:
        self.calls.append({"method": method, **request})
        answer: Mapping[str, Any] = self._answers[method]
        if "error" in answer:
            raise error_of_kind(**answer["error"])
        return answer

    def validate_session(self, token: str, device: str, *, passive: bool, **_: Any) -> Validation:
        """Answers with the verdict of the case."""
        said = self._answer(
            "validate_session", access_token=token, device_id=device, passive=passive
        )
        status, renew = SessionStatus[said["status"]], said["renew_recommended"]
        session, active = session_of(said["session"]), status is SessionStatus.ACTIVE
        return Validation(active, status, device, False, session, renew, 0)

    def renew_session(self, token: str, device: str, *, passive: bool, **_: Any) -> Renewal:
        """Answers with the renewal of the case."""
        said = self._answer("renew_session", access_token=token, device_id=device, passive=passive)
        status, new = SessionStatus[said["status"]], said["access_token"]
        return Renewal(status, session_of(said["session"]), new is not None, new, None, 0)

    def issue_device(
        self, user_id: str, *, device_id: str, idle_timeout: timedelta | None, **_: Any
    ) -> IssuedDevice:
        """Answers with the sign-in of the case."""
        idle = None if idle_timeout is None else idle_timeout.total_seconds()
        said = self._answer(
            "issue_device", user_id=user_id, device_id=device_id, idle_timeout_seconds=idle
        )
        device = Device(
            said["device_id"], "", "", "", FormFactor.UNSPECIFIED, ClientInfo(),
            said["session_id"], None, None, None, at(said["expires_at"]), False, True,
            absolute_expire_time=at(said["absolute_expires_at"]),
        )  # fmt: skip
        ends = at(said["token_expires_at"])
        return IssuedDevice(device, said["access_token"], ends, not device_id, not device_id, ())

    def revoke_device(self, user_id: str, device_id: str, *, reason: str, **more: Any) -> bool:
        """Answers True if the user was signed in on the device, according to the case."""
        named = {"user_id": user_id, "device_id": device_id, "reason": reason}
        said = self._answer("revoke_device", **named, forget=more.get("forget", False))
        return bool(said["revoked"])


class AsyncService:
    """The same client for asyncio."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.timeout = service.timeout

    def __getattr__(self, method: str) -> Any:
        async def call(*request: Any, **more: Any) -> Any:
            return getattr(self._service, method)(*request, **more)

        return call


def action_of(app: Mapping[str, Any]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Returns the method of a visit that the app of a case calls, with its arguments. The name is
    empty if the app calls none.
    """
    kind = app["action"]
    if kind == "require_step_up":
        age = app["max_age_seconds"]
        wanted = None if age is None else timedelta(seconds=age)
        return "require", (), {"max_age": wanted, "auth_methods": app["auth_methods"] or None}
    if kind == "sign_in":
        return "sign_in", (app["user_id"],), {"remember": app["remember"]}
    names = {"require_session": "require", "look": "", "ignore": ""}
    return names.get(kind, kind), (), {}


def seen_by(visit: Any, app: Mapping[str, Any]) -> str | None:
    """Returns the ID of the session that the app of a case sees after its action."""
    session = None if app["action"] == "ignore" else visit.session
    return None if session is None else session.session_id


class Played:
    """Plays a case and records the results."""

    def __init__(self, case: Case) -> None:
        self._app = case.given["app"]
        self._request = case.given["request"]
        self._flow = flow_of(case.settings)
        self.service = Service(case.given["service"])
        self.ran = False
        self.seen: str | None = None

    def over_wsgi(self) -> dict[str, Any]:
        """Plays the case over WSGI and returns the results."""
        started: list[tuple[str, _Pairs]] = []

        def app(environ: Any, start_response: Any) -> list[bytes]:
            self.ran = True
            visit = visit_of(environ)
            method, given, more = action_of(self._app)
            try:
                if method:
                    getattr(visit, method)(*given, **more)
            finally:
                self._look(visit)
            start_response(f"{self._app['status']} Said", [tuple(h) for h in self._app["headers"]])
            return [SERVED]

        path, _, query = self._request["target"].partition("?")
        environ = {
            "REQUEST_METHOD": self._request["method"],
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": self._request["peer"],
            "wsgi.url_scheme": self._request["scheme"],
        }
        for name, value in self._request["headers"]:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        middleware = WsgiMiddleware(app, self.service, self._flow)  # type: ignore[arg-type]
        body = b"".join(
            middleware(environ, lambda status, headers, *_: started.append((status, headers)))
        )
        ((status, headers),) = started
        return self._told(int(status.partition(" ")[0]), headers, body)

    async def over_asgi(self) -> dict[str, Any]:
        """Plays the case over ASGI and returns the results."""
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.ran = True
            visit = scope["state"]["visit"]
            method, given, more = action_of(self._app)
            try:
                if method:
                    found = getattr(visit, method)(*given, **more)
                    if method != "require":
                        await found
            finally:
                self._look(visit)
            headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in self._app["headers"]]
            status = self._app["status"]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": SERVED})

        async def send(message: Any) -> None:
            sent.append(message)

        path, _, query = self._request["target"].partition("?")
        peer = self._request["peer"]
        scope = {
            "type": "http",
            "method": self._request["method"],
            "scheme": self._request["scheme"],
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "client": (peer, 5000) if peer else None,
            "headers": [
                (name.encode(), value.encode("latin-1")) for name, value in self._request["headers"]
            ],
        }
        service: Any = AsyncService(self.service)
        await AsgiMiddleware(app, service, self._flow)(scope, None, send)  # type: ignore[arg-type]
        start, *rest = sent
        pairs = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
        return self._told(start["status"], pairs, b"".join(part["body"] for part in rest))

    def _look(self, visit: Any) -> None:
        """Records the session that the app sees. In an outage, this access itself raises a
        refusal.
        """
        self.seen = seen_by(visit, self._app)

    def _told(self, status: int, headers: _Pairs, body: bytes) -> dict[str, Any]:
        found: dict[str, str] = {}
        for name, value in headers:
            lower = name.lower()
            if lower in COMPARED:
                found[lower] = f"{found[lower]}, {value}" if lower in found else value
        return {
            "calls": self.service.calls,
            "app_ran": self.ran,
            "session_id": self.seen,
            "status": status,
            "headers": found,
            "set_cookie": [value for name, value in headers if name.lower() == "set-cookie"],
            "body": body,
        }
