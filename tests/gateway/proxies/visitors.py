"""Who comes: what a browser or an app brings that is signed in, was, or pretends to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count

from session_authority_client.testing import FakeAuthority
from session_authority_client.types import IssuedDevice
from tests.gateway.proxies.raw_http import Headers

TOKEN, DEVICE = "__Host-session", "__Host-device"
# Browsers say what they want; over plain HTTP, as here, by `Accept` alone.
PAGE: Headers = [("Accept", "text/html,application/xhtml+xml")]
SCRIPT: Headers = [("Accept", "application/json")]

_users = count(1)
# The service's own settings, as the fake has them: how old a token must be to be renewed, and when
# it counts as kept by its browser.
_ALARM_AFTER, _DURABLE_AFTER = timedelta(minutes=5), timedelta(minutes=3)


class Visit:
    """A user of this one request, and the headers that the request brings."""

    def __init__(self, user: str, headers: Headers) -> None:
        self.user = user
        self.headers = headers


Visitor = Callable[[FakeAuthority], Visit]


def _signed_in(authority: FakeAuthority) -> tuple[str, IssuedDevice]:
    user = f"user-{next(_users)}"
    with authority.client() as client:
        return user, client.issue_device(user)


def cookies(token: str, device: str) -> tuple[str, str]:
    """The one line in which browsers send both."""
    return ("Cookie", f"theme=dark; {TOKEN}={token}; {DEVICE}={device}")


def nobody(_: FakeAuthority) -> Visit:
    """No cookie at all."""
    return Visit("", [])


def browser(authority: FakeAuthority) -> Visit:
    """Signed in."""
    user, issued = _signed_in(authority)
    return Visit(user, [cookies(issued.access_token, issued.device.device_id)])


def app(authority: FakeAuthority) -> Visit:
    """An app, which keeps its token itself."""
    user, issued = _signed_in(authority)
    bearer = ("Authorization", f"Bearer {issued.access_token}")
    return Visit(user, [bearer, ("X-Device-Id", issued.device.device_id)])


def expired(authority: FakeAuthority) -> Visit:
    """The token's time is over, the session's is not."""
    visit = browser(authority)
    authority.expire_tokens()
    return visit


def _old_token(authority: FakeAuthority, then: timedelta) -> Visit:
    """The token before the one that was seen in use so long ago."""
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
    """A request that was stuck somewhere."""
    return _old_token(authority, timedelta(minutes=2))


def replayed(authority: FakeAuthority) -> Visit:
    """A token that was stolen, or the browser whose token was stolen."""
    return _old_token(authority, _ALARM_AFTER * 2)


def foreign_device(authority: FakeAuthority) -> Visit:
    """A good token on another device than its own."""
    user, issued = _signed_in(authority)
    _, other = _signed_in(authority)
    return Visit(user, [cookies(issued.access_token, other.device.device_id)])


def signed_out(authority: FakeAuthority) -> Visit:
    """Signed out from elsewhere."""
    visit = browser(authority)
    authority.sign_out(visit.user)
    return visit


def doubled(authority: FakeAuthority) -> Visit:
    """The same cookies in two lines."""
    visit = browser(authority)
    return Visit(visit.user, [*visit.headers, *visit.headers])


def planted(authority: FakeAuthority) -> Visit:
    """Cookies of two sessions: one pair was planted, and nothing tells which."""
    own, planted = browser(authority), browser(authority)
    return Visit(own.user, [*own.headers, *planted.headers])


def doubled_authorization(authority: FakeAuthority) -> Visit:
    """Two apps in one request."""
    own, other = app(authority), app(authority)
    return Visit(own.user, [*own.headers, other.headers[0]])


def many_cookies(authority: FakeAuthority) -> Visit:
    """As many cookies as browsers keep for a site, 64 KiB in one line."""
    visit = browser(authority)
    name, value = visit.headers[0]
    ballast = "; ".join(f"c{number}={'x' * 4000}" for number in range(16))
    return Visit(visit.user, [(name, f"{ballast}; {value}")])
