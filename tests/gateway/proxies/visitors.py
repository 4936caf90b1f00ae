"""Visitors: what a browser or an app sends that is signed in, was signed in, or pretends to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count

from session_authority_client.testing import FakeAuthority
from session_authority_client.types import IssuedDevice
from tests.gateway.proxies.raw_http import Headers

TOKEN, DEVICE = "__Host-session", "__Host-device"
# The headers of a browser show the kind of the request: over plain HTTP, as here, only `Accept`
# shows it.
PAGE: Headers = [("Accept", "text/html,application/xhtml+xml")]
SCRIPT: Headers = [("Accept", "application/json")]

_users = count(1)
# The intervals of the fake service. A token can be renewed at the age of `_ALARM_AFTER`. At the age
# of `_DURABLE_AFTER`, the browser counts as having stored the token.
_ALARM_AFTER, _DURABLE_AFTER = timedelta(minutes=5), timedelta(minutes=3)


class Visit:
    """The user of one request, and the headers of the request."""

    def __init__(self, user: str, headers: Headers) -> None:
        self.user = user
        self.headers = headers


Visitor = Callable[[FakeAuthority], Visit]


def _signed_in(authority: FakeAuthority) -> tuple[str, IssuedDevice]:
    user = f"user-{next(_users)}"
    with authority.client() as client:
        return user, client.issue_device(user)


def cookies(token: str, device: str) -> tuple[str, str]:
    """The one line in which browsers send both cookies."""
    return ("Cookie", f"theme=dark; {TOKEN}={token}; {DEVICE}={device}")


def nobody(_: FakeAuthority) -> Visit:
    """A request without a cookie."""
    return Visit("", [])


def browser(authority: FakeAuthority) -> Visit:
    """A signed-in browser."""
    user, issued = _signed_in(authority)
    return Visit(user, [cookies(issued.access_token, issued.device.device_id)])


def app(authority: FakeAuthority) -> Visit:
    """An app, which keeps its token itself."""
    user, issued = _signed_in(authority)
    bearer = ("Authorization", f"Bearer {issued.access_token}")
    return Visit(user, [bearer, ("X-Device-Id", issued.device.device_id)])


def expired(authority: FakeAuthority) -> Visit:
    """The token has expired, and the session has not."""
    visit = browser(authority)
    authority.expire_tokens()
    return visit


def _old_token(authority: FakeAuthority, then: timedelta) -> Visit:
    """A token whose successor was seen in use this long ago."""
    user, issued = _signed_in(authority)
    device = issued.device.device_id
    with authority.client() as client:
        authority.pass_time(_ALARM_AFTER)
        renewed = client.renew_session(issued.access_token, device)
        assert renewed.access_token
        authority.pass_time(_DURABLE_AFTER)
        assert client.validate_session(renewed.access_token, device).active
    authority.pass_time(then)
    return Visit(user, [cookies(issued.access_token, device)])


def superseded(authority: FakeAuthority) -> Visit:
    """A request that was delayed on its way."""
    return _old_token(authority, timedelta(minutes=2))


def replayed(authority: FakeAuthority) -> Visit:
    """A stolen token, or the browser whose token was stolen."""
    return _old_token(authority, _ALARM_AFTER * 2)


def foreign_device(authority: FakeAuthority) -> Visit:
    """A good token on a device that is not its own."""
    user, issued = _signed_in(authority)
    _, other = _signed_in(authority)
    return Visit(user, [cookies(issued.access_token, other.device.device_id)])


def signed_out(authority: FakeAuthority) -> Visit:
    """A session that was signed out from elsewhere."""
    visit = browser(authority)
    authority.sign_out(visit.user)
    return visit


def doubled(authority: FakeAuthority) -> Visit:
    """The same cookies in two lines."""
    visit = browser(authority)
    return Visit(visit.user, [*visit.headers, *visit.headers])


def planted(authority: FakeAuthority) -> Visit:
    """Cookies of two sessions: one pair was planted, and nothing shows which."""
    own, planted = browser(authority), browser(authority)
    return Visit(own.user, [*own.headers, *planted.headers])


def doubled_authorization(authority: FakeAuthority) -> Visit:
    """The tokens of two apps in one request."""
    own, other = app(authority), app(authority)
    return Visit(own.user, [*own.headers, other.headers[0]])


def many_cookies(authority: FakeAuthority) -> Visit:
    """As many cookies as browsers keep for a site: 64 KiB in one line."""
    visit = browser(authority)
    name, value = visit.headers[0]
    ballast = "; ".join(f"c{number}={'x' * 4000}" for number in range(16))
    return Visit(visit.user, [(name, f"{ballast}; {value}")])
