"""Reads and writes the headers of a browser's two cookies: its access token and its device ID. This
module makes no decisions.

A session that ends with the browser has a third cookie, which this module calls the mark. Browsers
don't say how long they keep a cookie, but a renewed token must be kept no longer than the token
before it. The mark says that the token's cookie must end with the browser. The mark's value is the
session's ID, so that the mark says nothing about any other session.

A client can change the mark. This is harmless, because the mark only decides how long the client
itself keeps a cookie. A client can always keep a token for longer, and only the service ends
sessions.

The cookies are always host-only, valid for all paths, and hidden from scripts (RFC 6265bis, section
4.1.3.2: `__Host-`). A value that could end a header or an attribute is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

__all__ = ["MAX_COOKIE_AGE", "MAX_COOKIE_BYTES", "Cookies", "SameSite"]

# Browsers drop a cookie whose name and value together are longer than this. They delete every
# cookie after 400 days at the latest.
MAX_COOKIE_BYTES = 4096
MAX_COOKIE_AGE = timedelta(days=400)
# The service refuses a sign-in if a token of the session could be longer than 4,000 bytes. So no
# renewal makes a cookie too long.
_MAX_NAME_LENGTH = MAX_COOKIE_BYTES - 4000 - len("__Host-")
_BRIEF = "-brief"
_BLANK = " \t"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


class SameSite(Enum):
    """Says whether browsers send the cookies when the user comes from another site. `STRICT`: they
    never do. `LAX`: they do if the user follows a link to a page.
    """

    STRICT = "Strict"
    LAX = "Lax"


@dataclass(frozen=True, slots=True)
class Cookies:
    """The names of the cookies, and the rules for writing them.

    `insecure` is for development on http://localhost, with a browser that treats this address as
    insecure. Without `insecure`, all names begin with `__Host-`. With `insecure`, the middleware
    refuses requests of browsers to all hosts except localhost, its subdomains, 127.0.0.1 and [::1].
    `device_same_site` is the rule for the device ID. If it is None, the rule is `same_site`.

    Raises ValueError for a name or a rule that is not allowed.
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
            try:  # frameworks use text here
                object.__setattr__(self, setting, SameSite(given))
            except ValueError:
                raise ValueError(f"{setting}: must be SameSite.STRICT or SameSite.LAX") from None
        prefix = "" if self.insecure else "__Host-"
        names = (prefix + self.token, prefix + self.device, prefix + self.token + _BRIEF)
        object.__setattr__(self, "_names", names)

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the three cookies: the token, the device ID, and the mark of a session that
        ends with the browser.
        """
        return self._names

    @property
    def token_name(self) -> str:
        """The name of the cookie with the token."""
        return self._names[0]

    @property
    def device_name(self) -> str:
        """The name of the cookie with the device ID."""
        return self._names[1]

    @property
    def brief_name(self) -> str:
        """The name of the cookie that marks a session that ends with the browser."""
        return self._names[2]

    def read(self, headers: Iterable[str]) -> tuple[str, str]:
        """Returns the token and the device ID from a request's `Cookie` headers. A missing value is
        empty.
        """
        return self.read_all(headers)[:2]

    def read_all(self, headers: Iterable[str]) -> tuple[str, str, str]:
        """Returns the token, the device ID, and the ID of a session that ends with the browser. A
        missing value is empty.
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
        """Returns the value of the cookie with this name, or an empty text if the value is unknown.
        If two cookies have the name and their values differ, one may come from an attacker. Nobody
        can know which one, so the value counts as missing.

        With insecure names, the last value counts instead. Another app on localhost may have left
        cookies with the same name for other paths, and this module can't remove them. Browsers send
        these cookies first, because their paths are longer (RFC 6265, section 5.4).

        Only spaces and tabs are stripped. Otherwise a name after other white space would pass for
        our cookie, although the rules of the `__Host-` prefix were never applied to it.
        """
        found = [value.strip(_BLANK) for key, value in pairs if key == name]
        return found[-1] if found and (self.insecure or len(set(found)) == 1) else ""

    def are_kept_back(self, token: str, device_id: str) -> bool:
        """Returns True if the browser may have cookies with the rule `STRICT` and did not send
        them. A browser sends either all such cookies or none.
        """
        strict = {
            found
            for found, rule in ((token, self.same_site), (device_id, self.device_same_site))
            if rule is SameSite.STRICT
        }
        return strict == {""}

    def is_set_by(self, line: str) -> bool:
        """Returns True if this `Set-Cookie` header sets one of the cookies that this object
        names.
        """
        return line.partition("=")[0].strip(_BLANK) in self._names

    def hand_out(
        self, token: str, device_id: str, end: datetime, now: datetime, *, brief: str = ""
    ) -> list[str]:
        """Returns the `Set-Cookie` headers that give a browser its token and its device ID.

        Args:
            token: The access token.
            device_id: The device ID. Its cookie always lasts as long as browsers allow.
            end: The absolute end of the session. The token's cookie lasts until then, because an
                expired token can be renewed. Only the service knows the idle end, which moves with
                each use.
            now: The current time.
            brief: The ID of a session that ends with the browser, or empty for other sessions. If
                it is given, the token's cookie has no expiry time, and the mark is set, too.

        Raises ValueError for a value that is malformed or too long.
        """
        life = None if brief else min(max(end - now, timedelta()), MAX_COOKIE_AGE)
        given = [
            self._set(self.token_name, token, life),
            self._set(self.device_name, device_id, MAX_COOKIE_AGE),
        ]
        return [*given, self._set(self.brief_name, brief, None)] if brief else given

    def take_back(self, *, device: bool, brief: bool = False) -> list[str]:
        """Returns the `Set-Cookie` headers that delete the token's cookie. With `device` they also
        delete the device ID, and with `brief` the mark.
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
