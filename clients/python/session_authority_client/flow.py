"""Decides for all middleware what happens to a request and its response, without any I/O.

A request presents a token and a device ID, and the flow decides which call the service gets. The
answer of the service decides whether the app handles the request, and what happens to the cookies.
It also decides which response an app gives if it needs a session.

A browser gets a new device ID only together with a token. After a click in a mail, a browser may
hold back its cookies (SameSite=Strict). Such a browser already has a device ID, and must not get
another device ID in its place.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from session_authority_client._shared.client_hints import ACCEPT_CH, read_hints
from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._shared.local_paths import local_path, with_next, with_query
from session_authority_client._shared.named_paths import checked_paths, is_named
from session_authority_client._shared.navigation import wants_page
from session_authority_client._shared.origins import is_foreign, normal
from session_authority_client._shared.proxies import Proxies
from session_authority_client._shared.responses import (
    CrossOrigin,
    InsecureHost,
    NoAnswer,
    Refused,
    ReturnHop,
    SignInRequired,
    StepUpRequired,
    redirect,
    refusal,
)
from session_authority_client._shared.return_hop import HOP, is_return
from session_authority_client._shared.step_up import StepUp
from session_authority_client.cookies import Cookies
from session_authority_client.devices import DevicesPage, failures
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.types import ClientInfo, IssuedDevice, Renewal, SessionStatus

__all__ = [
    "CONDUCT",
    "MAX_TOKEN_BYTES",
    "VARIES",
    "Conduct",
    "CrossOrigin",
    "Flow",
    "Headers",
    "InsecureHost",
    "NoAnswer",
    "Presented",
    "Refused",
    "ReturnHop",
    "SignInRequired",
    "StepUp",
    "StepUpRequired",
    "local_path",
]

_log = logging.getLogger("session_authority_client")

MAX_TOKEN_BYTES = 4096
_MAX_USER_AGENT_LENGTH = 512
_TOKEN = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_TOKEN_BYTES}}}", re.ASCII)
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE | re.ASCII)
_LOCAL_HOST = re.compile(
    r"(localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE | re.ASCII
)
_RETRY_AFTER = timedelta(seconds=1)
_MAX_RETRY_AFTER = timedelta(seconds=60)
# The shortest idle timeout that the service can be set to accept.
_SHORTEST_IDLE_TIMEOUT = timedelta(minutes=1)

Headers = Mapping[str, Sequence[str]]
"""The headers of a request: lists of values by lower-case names."""


class Conduct(Enum):
    """The action of the middleware after the service has judged a token."""

    GO_ON = "go on"
    RENEW = "renew, then follow the renewal's status"
    # The cookies stay. The denied request may be an old one, and must not delete the cookies of a
    # newer sign-in.
    DENY = "deny"
    WIPE = "deny, and delete the cookies"


CONDUCT: Mapping[SessionStatus, Conduct] = {
    SessionStatus.UNSPECIFIED: Conduct.DENY,
    SessionStatus.ACTIVE: Conduct.GO_ON,
    SessionStatus.TOKEN_MISSING: Conduct.DENY,
    SessionStatus.TOKEN_INVALID: Conduct.DENY,
    SessionStatus.TOKEN_EXPIRED: Conduct.RENEW,
    SessionStatus.NO_SESSION: Conduct.DENY,
    SessionStatus.SESSION_EXPIRED: Conduct.DENY,
    SessionStatus.SUPERSEDED: Conduct.DENY,
    SessionStatus.REPLAYED: Conduct.WIPE,
    SessionStatus.SESSION_ENDED: Conduct.DENY,
    SessionStatus.WRONG_DEVICE: Conduct.DENY,
}


# The request headers on which a response depends. With them in `Vary`, no cache gives one user's
# page to another client. `X-Device-Id` is the default of `Flow.device_header`. If the app sets
# another header, that header is not in this list.
VARIES = ("Cookie", "Authorization", "X-Device-Id")


@dataclass(frozen=True, slots=True)
class Presented:
    """The facts of a request. `token` and `device_id` are empty if the request had none, or none in
    a valid form.

    `status` is set if no call of the service is needed to know it, and None otherwise. `app` is
    True if an app sent the request. An app keeps its token and its device ID itself, and the
    middleware adds no cookies to its responses. `page` is True if a browser wants a page. `target`
    is the path with its query.

    `repeatable` is True for GET and HEAD: such a request changes nothing, so that it may be sent
    again. `brief` is the ID of the session that ends when the browser is closed, or empty.
    `passive` is True on `Flow.passive_paths`: the page sent the request by itself, without an
    action of the end user.
    """

    status: SessionStatus | None
    token: str = field(repr=False)
    device_id: str
    app: bool
    client: ClientInfo
    page: bool
    target: str = field(default="", repr=False)
    repeatable: bool = True
    brief: str = ""
    passive: bool = False

    @property
    def way_back(self) -> str:
        """The target, if a browser can return to it after a sign-in. Else empty."""
        return local_path(self.target, "") if self.repeatable else ""


@dataclass(frozen=True, slots=True)
class Flow:
    """The settings of the middleware: cookies, sign-in page, proxies, origins, and paths.

    `sign_in_url`: the page to which a browser is redirected if it wants a page and has no session,
    or needs a step-up. Without `sign_in_url` the browser gets 401. Scripts and apps get 401 in any
    case. If `sign_in_url` is a path, the query parameter `next` is added, with the path that the
    browser requested by GET or HEAD.

    `trusted_proxies`: addresses and networks of proxies whose `X-Forwarded-For` and
    `X-Forwarded-Proto` the app believes. "unix" stands for a proxy at a unix socket.

    `device_header`: the header in which apps send their device ID.

    `bearer`: if True, a client counts as an app if it sends a bearer token or the `device_header`,
    even an empty one. Set it to False if a proxy in front of the app adds its own `Authorization:
    Bearer` to the requests of browsers: then only cookies count.

    `check_origin`: refuses a request that a browser sends for a page of another origin, if the
    request may change something. This holds for all methods but GET, HEAD, OPTIONS and TRACE, and
    for handshakes of WebSockets. A sibling subdomain is another origin. Set it to False if the
    whole app has its own protection against such requests.

    `trusted_origins` ("https://id.example", as the header `Origin` spells it): origins whose pages
    may send such requests. Examples are an OIDC provider that answers with `form_post`, and a front
    end with its own origin. Behind a proxy that rewrites `Host`, name this app's own origin.
    Otherwise browsers from before 2023, and browsers on plain HTTP, are refused there.

    `return_paths`: paths to which other sites send browsers, such as an OIDC callback. A path with
    `*` at its end stands for all paths that start like it. A browser that another site sent to such
    a path does not send its strict cookies. It gets a page that requests the same URL again, with
    the cookies.

    `brief_idle_timeout`: how long a session that ends with the browser (`remember=False`) may stay
    unused. A shorter idle timeout of the service applies instead. If this value is shorter than the
    service accepts, the shortest accepted value applies.

    `passive_paths`: paths that pages of the app request by themselves, spelled like `return_paths`.
    A request to such a path does not count as a use of the session, so it does not put off the idle
    end.

    `end_connections`: ends WebSockets, event streams and streams of gRPC together with the session,
    if the app has read the session there. False leaves this to the app (`visit.ended()`).

    `devices`: the settings of the page of the user's devices. The middleware serves the page at
    `devices.path`, and the API of the page below this path. The middleware checks the origin of
    requests to the page and its API even if `check_origin` is False.

    Raises ValueError or TypeError for a wrong setting.
    """

    cookies: Cookies = field(default_factory=Cookies)
    sign_in_url: str | None = None
    trusted_proxies: Sequence[str] = ()
    device_header: str = "x-device-id"
    bearer: bool = True
    check_origin: bool = True
    trusted_origins: Sequence[str] = ()
    return_paths: Sequence[str] = ()
    brief_idle_timeout: timedelta = timedelta(hours=12)
    passive_paths: Sequence[str] = ()
    end_connections: bool = True
    devices: DevicesPage | None = None
    _proxies: Proxies = field(init=False, repr=False, compare=False)
    _origins: frozenset[str] = field(init=False, repr=False, default=frozenset())

    def __post_init__(self) -> None:
        if self.sign_in_url is not None and not re.fullmatch(r"[!-~]+", self.sign_in_url, re.ASCII):
            raise ValueError("sign_in_url: must be printable ASCII")
        for setting in ("bearer", "check_origin", "end_connections"):
            if not isinstance(getattr(self, setting), bool):
                raise TypeError(f"{setting}: must be True or False")
        if not isinstance(self.brief_idle_timeout, timedelta):
            raise TypeError("brief_idle_timeout: must be a timedelta")
        if not self.brief_idle_timeout >= _SHORTEST_IDLE_TIMEOUT:
            raise ValueError("brief_idle_timeout: must be a minute at least")
        if not isinstance(self.devices, DevicesPage | None):
            raise TypeError("devices: must be a DevicesPage")
        for setting in ("return_paths", "passive_paths"):
            paths = tuple(checked_paths(setting, getattr(self, setting)))
            object.__setattr__(self, setting, paths)
        if self.devices is not None and self.devices.path not in self.return_paths:
            # Links in mails lead to the page of devices.
            object.__setattr__(self, "return_paths", (*self.return_paths, self.devices.path))
        object.__setattr__(self, "_proxies", Proxies(self.trusted_proxies))
        object.__setattr__(self, "_origins", frozenset(_origins_of(self.trusted_origins)))

    # --- reading a request ------------------------------------------------------------------------

    def presented(self, method: str, headers: Headers, peer: str, target: str = "") -> Presented:
        """Reads the token, the device ID and the facts of the client from a request.

        Args:
            method: The request's method, or "WEBSOCKET" for a handshake whose method is unknown.
            headers: The headers of the request: lists of values by lower-case names.
            peer: The address at the other end of the connection, empty at a unix socket.
            target: The path with its query, as the client sent it.

        Raises CrossOrigin, InsecureHost, ReturnHop.
        """
        authorization = headers.get("authorization", ())
        devices = headers.get(self.device_header.lower(), ())
        bearer = _bearer_of(authorization)
        app = self._is_app(bearer, devices)
        page = not app and wants_page(method, headers)
        brief = ""
        mounted = self.devices_at(target)
        checks = self.check_origin or mounted is not None
        if checks and not app and is_foreign(method, headers, self._origins):
            raise _cross_origin(method, headers, page, mounted, target)
        if app:
            token, device_id = bearer[1] if bearer else "", devices[0] if len(devices) == 1 else ""
        else:
            self._check_host(headers, page)
            token, device_id, brief = self.cookies.read_all(headers.get("cookie", ()))
            kept_back = self.cookies.are_kept_back(token, device_id)
            if kept_back and is_return(method, headers, target, self.return_paths):
                raise ReturnHop("return_hop", HOP)
        status = None
        if not token:
            status = SessionStatus.TOKEN_MISSING
        elif not _TOKEN.fullmatch(token):
            status = SessionStatus.TOKEN_INVALID
        return Presented(
            status=status,
            token="" if status else token,
            device_id=canonical_device_id(device_id),
            app=app,
            client=ClientInfo(
                ip_address=self._proxies.address(headers, peer),
                user_agent="".join(headers.get("user-agent", ())[:1])[:_MAX_USER_AGENT_LENGTH],
                client_hints=read_hints(headers),
            ),
            page=page,
            target=target,
            repeatable=method in ("GET", "HEAD"),
            brief=brief,
            passive=is_named(target, self.passive_paths),
        )

    def devices_at(self, target: str) -> DevicesPage | None:
        """Returns the page of devices if it handles requests to this target, else None."""
        return self.devices if self.devices is not None and self.devices.serves(target) else None

    def trusts(self, peer: str) -> bool:
        """Returns True if the app believes the headers of a proxy at this address. An empty address
        means a unix socket.
        """
        return self._proxies.trusts(peer)

    def _is_app(self, bearer: re.Match[str] | None, devices: Sequence[str]) -> bool:
        # A page of another origin can't make a browser look like an app. Only scripts can set these
        # two headers, and the browser first asks the app for permission (CORS).
        return self.bearer and (bearer is not None or len(devices) > 0)

    def accept_ch(self, method: str, headers: Headers, peer: str, scheme: str) -> str:
        """Returns the value of the response's `Accept-CH` header, which asks a browser for client
        hints.

        Returns an empty text if the request is not for a page, if an app sent the request, or if
        the end user's connection is plain HTTP. Browsers obey this header only over HTTPS.

        Args:
            method: The method of the request.
            headers: The headers of the request: lists of values by lower-case names.
            peer: The address at the other end of the connection, empty at a unix socket.
            scheme: The scheme of the connection, "http" or "https".
        """
        devices = headers.get(self.device_header.lower(), ())
        bearer = _bearer_of(headers.get("authorization", ()))
        is_page = wants_page(method, headers) and not self._is_app(bearer, devices)
        return ACCEPT_CH if is_page and self._proxies.is_secure(headers, peer, scheme) else ""

    def _check_host(self, headers: Headers, page: bool) -> None:
        host = "".join(headers.get("host", ("localhost",)))
        if self.cookies.insecure and not _LOCAL_HOST.fullmatch(host):
            raise InsecureHost("insecure_cookies", refusal(400, "insecure_cookies", page=page))

    # --- cookies of a response --------------------------------------------------------------------

    def after_denial(self, presented: Presented, status: SessionStatus) -> list[str]:
        """Returns the `Set-Cookie` headers of a response to a request without a good session. There
        are such headers only for a replayed token: they delete the browser's cookies.
        """
        if CONDUCT[status] is Conduct.WIPE and not presented.app:
            return self.cookies.take_back(device=True, brief=bool(presented.brief))
        return []

    def after_renewal(self, presented: Presented, renewal: Renewal, now: datetime) -> list[str]:
        """Returns the `Set-Cookie` headers of a response to a renewal. If a good session got no new
        token, there are none, and the browser keeps its cookies.
        """
        if not renewal.active:
            return self.after_denial(presented, renewal.status)
        if presented.app or renewal.access_token is None or renewal.session is None:
            return []
        session = renewal.session
        end = session.absolute_expire_time or session.expire_time
        brief = session.session_id if presented.brief == session.session_id else ""
        return self.cookies.hand_out(renewal.access_token, session.device_id, end, now, brief=brief)

    def after_sign_in(
        self, presented: Presented, issued: IssuedDevice, now: datetime, *, remember: bool = True
    ) -> list[str]:
        """Returns the `Set-Cookie` headers of a response to a sign-in. If `remember` is False, the
        browser deletes the token when the browser is closed.
        """
        if presented.app:
            return []
        device = issued.device
        end = device.absolute_expire_time or device.expire_time or issued.token_expire_time
        brief = "" if remember else device.session_id
        return self.cookies.hand_out(issued.access_token, device.device_id, end, now, brief=brief)

    def after_sign_out(self, presented: Presented) -> list[str]:
        """Returns the `Set-Cookie` headers of a response to a sign-out.

        The browser keeps its device ID. Without the ID, its next sign-in would look like a sign-in
        on an unknown device.

        A browser that did not send its strict cookies keeps its token. Another site can make a
        browser send a form here without these cookies, and this must not sign the end user out.
        """
        if presented.app or presented.status is SessionStatus.TOKEN_MISSING:
            return []
        return self.cookies.take_back(device=False, brief=bool(presented.brief))

    # --- refusals ---------------------------------------------------------------------------------

    def sign_in_required(
        self, presented: Presented, status: SessionStatus, *, renew_recommended: bool = False
    ) -> SignInRequired:
        """Makes the refusal of a client that is not signed in: 401, or a redirect to the sign-in
        page. The code of a 401 is `token_expired` if the token must be renewed, and
        `sign_in_required` for every other reason.
        """
        if self.sign_in_url is not None and presented.page:
            return SignInRequired(
                "sign_in_required", redirect(with_next(self.sign_in_url, presented.way_back))
            )
        renews = renew_recommended or CONDUCT[status] is Conduct.RENEW
        code = "token_expired" if renews else "sign_in_required"
        return SignInRequired(code, refusal(401, code, ("WWW-Authenticate", "Bearer")))

    def step_up_required(self, presented: Presented, wanted: StepUp, lack: str) -> StepUpRequired:
        """Makes the refusal of a session whose sign-in is too old or too weak: 401 as in RFC 9470,
        or a redirect to the sign-in page. `lack` says in words what sign-in is required.
        """
        code = "insufficient_user_authentication"
        if self.sign_in_url is not None and presented.page:
            url = with_next(self.sign_in_url, presented.way_back)
            return StepUpRequired(code, redirect(with_query(url, wanted.query)), wanted)
        challenge = f'Bearer error="{code}", error_description="{lack}"'
        more: dict[str, object] = {}
        if wanted.max_age_seconds is not None:
            challenge += f', max_age="{wanted.max_age_seconds}"'
            more["max_age"] = wanted.max_age_seconds
        if wanted.auth_methods:
            more["auth_methods"] = wanted.auth_methods
        answer = refusal(401, code, ("WWW-Authenticate", challenge), more=more)
        return StepUpRequired(code, answer, wanted)

    def no_answer(self, presented: Presented, error: SessionAuthorityError) -> NoAnswer:
        """Makes the refusal of a request during an outage of the service: 503. The refusal does not
        say whether the session is good, so the client keeps its token and tries again.
        """
        wait = min(max(error.retry_after or _RETRY_AFTER, _RETRY_AFTER), _MAX_RETRY_AFTER)
        retry = ("Retry-After", str(math.ceil(wait.total_seconds())))
        text = "unavailable" if presented.repeatable else "unavailable_for_form"
        answer = refusal(503, "unavailable", retry, page=presented.page, text=text)
        return NoAnswer("unavailable", answer)


def _bearer_of(authorization: Sequence[str]) -> re.Match[str] | None:
    return _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None


def _origins_of(given: Sequence[str]) -> Iterator[str]:
    if isinstance(given, str):
        raise ValueError("trusted_origins: must be several, not one text")
    for origin in given:
        plain = normal(origin)
        if plain is None:
            raise ValueError(
                "trusted_origins: must be scheme://host or scheme://host:port in ASCII, not"
                f" {origin!r}"
            )
        yield plain


def _cross_origin(
    method: str, headers: Headers, page: bool, mounted: DevicesPage | None, target: str
) -> CrossOrigin:
    _log.info(
        "Refused a %.20r that a page of another origin sent: Origin %.200r, Sec-Fetch-Site %.100r,"
        " Host %.200r. If it may, name its origin in Flow(trusted_origins=...)",
        method,
        *(", ".join(headers.get(name, ())) for name in ("origin", "sec-fetch-site", "host")),
    )
    code = "cross_origin_request"
    if mounted is not None:
        return CrossOrigin(code, failures.foreign_origin(mounted, target, headers))
    return CrossOrigin(code, refusal(403, code, page=page))
