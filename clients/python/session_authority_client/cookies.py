"""Reads and writes the headers of a browser's cookies, which contain its access token and its
device ID. The module `flow` decides when a response sets or deletes a cookie.

A session that ends with the browser has a third cookie, the brief cookie. docs/protocol.md calls
this cookie the mark. A renewed token must be kept no longer than the token before it, but browsers
don't report how long they keep a cookie. If a request has the brief cookie of the session, the
cookie of the renewed token must end with the browser. The value of the brief cookie is the
session's ID, so the brief cookie applies only to this session.

A client that changes its brief cookie does no harm. The brief cookie only decides how long this
client keeps its own token, and a client can always keep a token for longer. Only the service ends
sessions.

All three cookies are host-only, valid for all paths, and hidden from scripts (RFC 6265bis, section
4.1.3.2: `__Host-`). This module refuses the value of a cookie if it could end a header or an
attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

__all__ = ["MAX_COOKIE_AGE", "MAX_COOKIE_BYTES", "Cookies", "SameSite"]

# Browsers drop a cookie if its name and its value together have more than `MAX_COOKIE_BYTES`.
# Browsers delete every cookie after 400 days at the latest.
MAX_COOKIE_BYTES = 4096
MAX_COOKIE_AGE = timedelta(days=400)
# The service refuses a sign-in if a token of the session could be longer than 4,000 bytes. So with
# a name of at most this length, a cookie is never too long, even after a renewal.
_MAX_NAME_LENGTH = MAX_COOKIE_BYTES - 4000 - len("__Host-")
_BRIEF = "-brief"
_BLANK = " \t"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


class SameSite(Enum):
    """Says whether browsers send a cookie with requests that come from another site. With `STRICT`,
    browsers never send the cookie with a request from another site. With `LAX`, browsers send the
    cookie with a request from another site only if the user follows a link to a page.
    """

    STRICT = "Strict"
    LAX = "Lax"


@dataclass(frozen=True, slots=True)
class Cookies:
    """Holds the settings of the cookies: their names and their attributes.

    `token` and `device` are the names of the cookies, without a prefix. `same_site` is the
    `SameSite` attribute of the cookies. `device_same_site` is the `SameSite` attribute of the
    device ID's cookie, by default the value of `same_site`.

    `insecure` is for development on http://localhost, with a browser that accepts no secure cookies
    from this address. Without `insecure`, all names begin with `__Host-`. With `insecure`, the
    middleware refuses requests of browsers to all hosts except localhost, its subdomains, 127.0.0.1
    and [::1].

    Raises ValueError for a name that is not allowed, and for a `same_site` or `device_same_site`
    other than `STRICT` and `LAX`.
    """

    token: str = "session"
    device: str = "device"
    same_site: SameSite = SameSite.STRICT
    insecure: bool = False
    device_same_site: SameSite | None = None
    _names: tuple[str, str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for setting, name in (("token", self.token), ("device", self.device)):
            if not _NAME.fullmatch(name) or name.lower().startswith(("__host-", "__secure-")):
                raise ValueError(f"{setting}: must be a cookie's name, without a prefix")
            if len(name) > _MAX_NAME_LENGTH:
                raise ValueError(f"{setting}: must have at most {_MAX_NAME_LENGTH} characters")
        if self.device in (self.token, self.token + _BRIEF):
            raise ValueError("token and device: are two cookies")
        of_device = self.same_site if self.device_same_site is None else self.device_same_site
        for setting, given in (("same_site", self.same_site), ("device_same_site", of_device)):
            try:  # a text is accepted, too: frameworks use texts for this setting
                object.__setattr__(self, setting, SameSite(given))
            except ValueError:
                raise ValueError(f"{setting}: must be SameSite.STRICT or SameSite.LAX") from None
        prefix = "" if self.insecure else "__Host-"
        names = (prefix + self.token, prefix + self.device, prefix + self.token + _BRIEF)
        object.__setattr__(self, "_names", names)

    @property
    def names(self) -> tuple[str, str, str]:
        """Returns the names of three cookies: the token's cookie, the device ID's cookie, and the
        brief cookie of a session that ends with the browser.
        """
        return self._names

    @property
    def token_name(self) -> str:
        """Returns the name of the cookie with the token."""
        return self._names[0]

    @property
    def device_name(self) -> str:
        """Returns the name of the cookie with the device ID."""
        return self._names[1]

    @property
    def brief_name(self) -> str:
        """Returns the name of the brief cookie, which only a session that ends with the browser
        has.
        """
        return self._names[2]

    def read(self, headers: Iterable[str]) -> tuple[str, str]:
        """Returns the token and the device ID from a request's `Cookie` headers. A missing value is
        an empty text.
        """
        return self.read_all(headers)[:2]

    def read_all(self, headers: Iterable[str]) -> tuple[str, str, str]:
        """Returns the token, the device ID, and the session ID in the brief cookie, from a
        request's `Cookie` headers. A missing value is an empty text.
        """
        pairs = [
            (name.strip(_BLANK), value)
            for header in headers
            for name, equals, value in [pair.partition("=") for pair in header.split(";")]
            if equals
        ]
        token, device_id, brief = self._names
        return self._only(pairs, token), self._only(pairs, device_id), self._only(pairs, brief)

    def _only(self, pairs: Iterable[tuple[str, str]], name: str) -> str:
        """Returns the value of the cookie with this name. Returns an empty text if there is no
        cookie with this name. Also returns an empty text if two cookies with this name have
        different values, because one of them may come from an attacker.

        With `insecure`, returns the last of several different values, and not an empty text.
        Another app on localhost may have set a cookie with the same name and a longer path, which
        this module can't delete. Browsers send cookies with longer paths first (RFC 6265, section
        5.4).

        Browsers don't apply the rules of the `__Host-` prefix to a name that begins with other
        white space than spaces and tabs. So this method strips only spaces and tabs from names.
        """
        found = [value.strip(_BLANK) for key, value in pairs if key == name]
        return found[-1] if found and (self.insecure or len(set(found)) == 1) else ""

    def are_kept_back(self, token: str, device_id: str) -> bool:
        """Returns True if the token's cookie or the device ID's cookie is `STRICT`, and the request
        has no value of a `STRICT` cookie. The browser may have `STRICT` cookies that it did not
        send with the request. A browser sends either all of its `STRICT` cookies with a request, or
        none of them.
        """
        strict = {
            found
            for found, rule in ((token, self.same_site), (device_id, self.device_same_site))
            if rule is SameSite.STRICT
        }
        return strict == {""}

    def is_set_by(self, line: str) -> bool:
        """Returns True if the `Set-Cookie` header with this value sets the token's cookie, the
        device ID's cookie or the brief cookie.
        """
        return line.partition("=")[0].strip(_BLANK) in self._names

    def hand_out(
        self, token: str, device_id: str, end: datetime, now: datetime, *, brief: str = ""
    ) -> list[str]:
        """Returns the `Set-Cookie` headers that give a browser its token and its device ID.

        Args:
            token: The access token.
            device_id: The device ID. The device ID's cookie always lasts 400 days, the longest time
                that browsers allow.
            end: The absolute end of the session. Unless `brief` is given, the token's cookie lasts
                until this time, but at most 400 days. The cookie may last longer than the token,
                because an expired token can be renewed. The idle end of the session moves with each
                use, so only the service knows it.
            now: The current time.
            brief: The ID of the session if the session ends with the browser, else empty. If
                `brief` is not empty, the token's cookie has no expiry time, and the brief cookie is
                set, too.

        Raises ValueError if a cookie's value is malformed or too long.
        """
        life = None if brief else min(max(end - now, timedelta()), MAX_COOKIE_AGE)
        given = [
            self._set(self.token_name, token, life),
            self._set(self.device_name, device_id, MAX_COOKIE_AGE),
        ]
        return [*given, self._set(self.brief_name, brief, None)] if brief else given

    def take_back(self, *, device: bool, brief: bool = False) -> list[str]:
        """Returns the `Set-Cookie` headers that delete the token's cookie. With `device`, the
        headers also delete the device ID's cookie. With `brief`, the headers also delete the brief
        cookie.
        """
        names = [self.token_name]
        names += [self.device_name] if device else []
        names += [self.brief_name] if brief else []
        return [self._line(name, "", timedelta()) for name in names]

    def _set(self, name: str, value: str, life: timedelta | None) -> str:
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{name}: can't be the value of a cookie")
        if len(name) + len(value) > MAX_COOKIE_BYTES:
            raise ValueError(f"{name}: is longer than browsers keep; sign in with fewer claims")
        return self._line(name, value, life)

    def _line(self, name: str, value: str, life: timedelta | None) -> str:
        secure = "" if self.insecure else "Secure; "
        lasting = "" if life is None else f"Max-Age={int(life.total_seconds())}; "
        rule = self.device_same_site if name == self.device_name else self.same_site
        return f"{name}={value}; Path=/; {lasting}{secure}HttpOnly; SameSite={SameSite(rule).value}"
