"""Decides for all middleware what happens to a request and its response, without any I/O.

This module reads the token and the device ID from a request. The middleware asks the service for
the status of the token. From the status of the token, this module decides whether the middleware
renews the token, and which cookies the response sets or deletes. The module also makes the refusals
for a client without a session, and for a sign-in that is too old or too weak for the app.

The middleware gives a browser a device ID only together with a token, and not whenever a request
has no device ID. After a click in a mail, a browser does not send its cookies with SameSite=Strict.
If the middleware gave a new device ID to a browser that did not send its cookies, the browser would
lose its old device ID.
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
# The service accepts no shorter idle timeout than this one, whatever its settings.
_SHORTEST_IDLE_TIMEOUT = timedelta(minutes=1)

Headers = Mapping[str, Sequence[str]]
"""The headers of a request. Each lower-case name has a list of values."""


class Conduct(Enum):
    """Says what the middleware does after the service has returned the status of a token."""

    GO_ON = "go on"
    RENEW = "renew, then follow the renewal's status"
    # `DENY` keeps the cookies. The browser may have sent the denied request before a newer sign-in,
    # and the response must not delete the cookies of the newer sign-in.
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


# The request headers on which a response depends. The middleware names these headers in `Vary`, so
# that no cache gives one user's page to another client. `X-Device-Id` is the default of
# `Flow.device_header`. If an app sets `Flow.device_header` to another header, that header is not in
# `VARIES`.
VARIES = ("Cookie", "Authorization", "X-Device-Id")


@dataclass(frozen=True, slots=True)
class Presented:
    """Holds the facts of a request. `token` is empty if the request has no well-formed token.
    `device_id` is empty if the request has no well-formed device ID.

    `status` is TOKEN_MISSING or TOKEN_INVALID if the request has no well-formed token, else None.
    `app` is True if the client is no browser but, for example, a mobile app. A mobile app keeps its
    token and its device ID itself, so the middleware sends no cookies to a mobile app. `page` is
    True if a browser navigates to a page. `target` is the path with its query.

    `repeatable` is True for GET and HEAD, because a GET or HEAD request changes nothing and may be
    sent again. `brief` is the value of the brief cookie (the ID of a session that ends with the
    browser), or empty. `passive` is True if `Flow.passive_paths` names the path: a page sent the
    request by itself, without an action of the end user.
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
        """Returns the target if a browser can return to the target after a sign-in, else an empty
        text.
        """
        return local_path(self.target, "") if self.repeatable else ""


@dataclass(frozen=True, slots=True)
class Flow:
    """Holds the settings of the middleware, and decides what happens to requests and responses.

    `sign_in_url`: the URL of the sign-in page. The middleware redirects a browser to the sign-in
    page if the browser navigates to a page that requires a sign-in, or a more recent or stronger
    sign-in. If `sign_in_url` is None, a browser that must sign in gets 401. Scripts and mobile apps
    get 401 in any case. If `sign_in_url` is a path, the middleware adds the query parameter `next`,
    with the path that the browser requested by GET or HEAD.

    `trusted_proxies`: addresses and networks of proxies. The middleware believes the headers
    `X-Forwarded-For` and `X-Forwarded-Proto` only if they come from one of the `trusted_proxies`.
    "unix" stands for a proxy at a unix socket.

    `device_header`: the header in which mobile apps send their device ID.

    `bearer`: if True, a client with a bearer token or a `device_header` (even an empty one) counts
    as a mobile app and not as a browser. Set `bearer` to False if a proxy adds its own
    `Authorization: Bearer` to the requests of browsers. If `bearer` is False, the middleware reads
    tokens only from cookies.

    `check_origin`: if True, the middleware refuses a request from a page of another origin, if the
    request may change something. The middleware checks the handshakes of WebSockets, and requests
    with any method but GET, HEAD, OPTIONS and TRACE. A sibling subdomain is another origin. Set
    `check_origin` to False if the whole app has its own protection against requests from other
    origins.

    `trusted_origins`: the origins whose pages may send requests that `check_origin` would refuse
    without this setting. Write an origin as the header `Origin` does: "https://id.example".
    Examples are the origin of an OIDC provider that answers with `form_post`, and the origin of a
    front end that is not this app's own. If a proxy rewrites `Host`, name this app's own origin,
    too. For browsers that are older than 2023 or use plain HTTP, the middleware compares `Origin`
    with `Host` to recognize requests of the app's own pages.

    `return_paths`: paths to which other sites send browsers, such as an OIDC callback. A path with
    `*` at its end stands for all paths that start with the text before the `*`. A browser that
    comes from another site does not send its strict cookies. On a return path, a browser without
    strict cookies gets a page that requests the same URL again, with the cookies that the browser
    did not send.

    `brief_idle_timeout`: how long a session that ends with the browser (`remember=False`) may stay
    unused. If `brief_idle_timeout` is above the service's maximum, the maximum applies. If
    `brief_idle_timeout` is below the service's minimum, the minimum applies.

    `passive_paths`: paths that pages of the app request by themselves, without an action of the end
    user. Write passive paths like `return_paths`. A request to a passive path does not count as a
    use of the session, so the idle end of the session does not move.

    `end_connections`: if True, the middleware ends WebSockets, event streams and streams of gRPC
    when their session ends. The middleware ends only connections during which the app has read the
    session. If `end_connections` is False, the app must end its connections itself, for example
    after `visit.ended()`.

    `devices`: the settings of the page on which a user sees the user's own devices. If `devices` is
    None, the app has no page of devices. The middleware serves the page of devices at
    `devices.path`, and the API of the page below this path. For the page of devices and its API,
    the middleware checks the origin of requests even if `check_origin` is False.

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
            # Mails may contain links to the page of devices, so its path is a return path.
            object.__setattr__(self, "return_paths", (*self.return_paths, self.devices.path))
        object.__setattr__(self, "_proxies", Proxies(self.trusted_proxies))
        object.__setattr__(self, "_origins", frozenset(_origins_of(self.trusted_origins)))

    # --- reading a request ------------------------------------------------------------------------

    def presented(self, method: str, headers: Headers, peer: str, target: str = "") -> Presented:
        """Reads the token, the device ID and the facts of the client from a request.

        Args:
            method: The request's method, or "WEBSOCKET" for a handshake whose method is unknown.
            headers: The headers of the request. Each lower-case name has a list of values.
            peer: The address at the other end of the connection, or empty at a unix socket.
            target: The path with its query, as the client sent it.

        Raises CrossOrigin if a page of another origin sent a request that may change something.
        Raises InsecureHost if the cookies are insecure and the host is not the local machine.
        Raises ReturnHop if the browser must send the request again, with its strict cookies.
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
        """Returns the settings of the page of devices if requests to this target are for this page
        or its API, else None.
        """
        return self.devices if self.devices is not None and self.devices.serves(target) else None

    def trusts(self, peer: str) -> bool:
        """Returns True if `trusted_proxies` contains this address, so that the headers of a proxy
        at this address are believed. An empty address means a unix socket.
        """
        return self._proxies.trusts(peer)

    def _is_app(self, bearer: re.Match[str] | None, devices: Sequence[str]) -> bool:
        # Only scripts can add a bearer token or the device header to a request. For a request to
        # another origin, the browser first asks the server for permission (CORS). So a page of
        # another origin can't make a browser look like a mobile app.
        return self.bearer and (bearer is not None or len(devices) > 0)

    def accept_ch(self, method: str, headers: Headers, peer: str, scheme: str) -> str:
        """Returns the value of the response's `Accept-CH` header, which asks a browser for client
        hints.

        Returns an empty text if the request is not for a page, or if a mobile app sent the request.
        Also returns an empty text if the end user's connection is plain HTTP, because browsers obey
        `Accept-CH` only over HTTPS.

        Args:
            method: The method of the request.
            headers: The headers of the request. Each lower-case name has a list of values.
            peer: The address at the other end of the connection, or empty at a unix socket.
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
        """Returns the `Set-Cookie` headers of a response to a request without a good session. If a
        browser sent a replayed token, the headers delete the browser's cookies. In all other cases
        the list is empty.
        """
        if CONDUCT[status] is Conduct.WIPE and not presented.app:
            return self.cookies.take_back(device=True, brief=bool(presented.brief))
        return []

    def after_renewal(self, presented: Presented, renewal: Renewal, now: datetime) -> list[str]:
        """Returns the `Set-Cookie` headers of a response after a renewal. If the session is good
        and there is no new token, the list is empty, and the browser keeps its cookies.
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
        browser deletes the token's cookie when the browser is closed.
        """
        if presented.app:
            return []
        device = issued.device
        end = device.absolute_expire_time or device.expire_time or issued.token_expire_time
        brief = "" if remember else device.session_id
        return self.cookies.hand_out(issued.access_token, device.device_id, end, now, brief=brief)

    def after_sign_out(self, presented: Presented) -> list[str]:
        """Returns the `Set-Cookie` headers of a response to a sign-out.

        The headers do not delete the browser's device ID. Without its device ID, the browser's next
        sign-in would look like a sign-in on an unknown device.

        If the client is a mobile app, or the request has no token, the list is empty. Another site
        can make a browser send a form to this app without the strict cookies, and this form must
        not sign the end user out.
        """
        if presented.app or presented.status is SessionStatus.TOKEN_MISSING:
            return []
        return self.cookies.take_back(device=False, brief=bool(presented.brief))

    # --- refusals ---------------------------------------------------------------------------------

    def sign_in_required(
        self, presented: Presented, status: SessionStatus, *, renew_recommended: bool = False
    ) -> SignInRequired:
        """Makes the refusal of a client that is not signed in: a 401, or a redirect to the sign-in
        page. The code of the 401 is `token_expired` if the client should renew its token, and
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
        """Makes the refusal of a session whose sign-in is too old or too weak. The refusal is a 401
        in the form of RFC 9470, or a redirect to the sign-in page. `lack` describes in words which
        sign-in is required.
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
        """Makes the refusal of a request during an outage of the service: a 503. The 503 does not
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
