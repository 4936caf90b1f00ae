"""Reads the options of a route. The configuration of a proxy sets these options for the requests of
the route.

Options come only from the proxy's configuration, and never from a request of a client. If an option
is unknown or wrong, each request of the route is denied. For example, if `max_age` is misspelt, its
check must not be skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from session_authority.runtime.durations import parse_duration

_E = TypeVar("_E", bound=Enum)
_METHOD = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+;=%]{1,128}", re.ASCII)
# At most this many routes are cached. Nothing else limits how many different routes a proxy can
# send.
_MAX_KEPT_ROUTES = 1000
_MAX_OPTIONS = 20


class RouteFault(ValueError):
    """The options of a route are unknown or wrong."""


class Need(Enum):
    """States whether a route needs a session.

    A `DISABLED` route lets all requests pass without a check and without an identity. An `OPTIONAL`
    route lets requests with and without a session pass, but only a request with a valid session has
    an identity.
    """

    REQUIRED = "required"
    OPTIONAL = "optional"
    DISABLED = "disabled"


class SignIn(Enum):
    """States what a browser gets if it requests a page without a session. With REDIRECT, the
    browser is redirected to the sign-in URL, or gets 401 if no sign-in URL is set. With STATUS, the
    browser gets 401.
    """

    REDIRECT = "redirect"
    STATUS = "401"


class Preflights(Enum):
    """States what happens to CORS preflights. With PASS, preflights go on to the app without an
    identity. With DENY, preflights are denied with 403.
    """

    PASS = "pass"
    DENY = "deny"


class Credentials(Enum):
    """States whether the client's token and device ID go on to the app."""

    REMOVE = "remove"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Route:
    """The options of one route, which say how the gateway treats requests on this route.

    `max_age` is the largest age of the sign-in. `auth_methods` are sign-in methods, of which the
    sign-in must have used at least one. `audience` is the audience of the app's assertions.
    `audience` is empty if `app` is empty.
    """

    session: Need = Need.REQUIRED
    max_age: timedelta | None = None
    auth_methods: tuple[str, ...] = ()
    sign_in: SignIn = SignIn.REDIRECT
    app: str = ""
    audience: str = ""
    preflights: Preflights = Preflights.PASS
    credentials: Credentials = Credentials.REMOVE


class Routes:
    """Reads the options of routes. `audiences` has the audience of each app, under the name of the
    app.
    """

    def __init__(self, audiences: Mapping[str, str] | None = None) -> None:
        self._audiences = dict(audiences or {})
        self._kept: dict[frozenset[tuple[str, str]], Route] = {}

    def read(self, options: Mapping[str, str]) -> Route:
        """Returns the route with these options. Raises RouteFault if an option is unknown or
        wrong.
        """
        key = frozenset(options.items())
        route = self._kept.get(key)
        if route is None:
            route = self._read(options)
            if len(self._kept) < _MAX_KEPT_ROUTES:
                self._kept[key] = route
        return route

    def read_text(self, text: str) -> Route:
        """Returns the route with the options in a text. The text has the form of a query, such as
        `session=optional&app=shop`. Raises RouteFault if the text can't be read, or if an option is
        unknown or wrong.
        """
        if not text:
            return self.read({})
        try:
            pairs = parse_qsl(
                text,
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MAX_OPTIONS,
            )
        except ValueError:
            raise RouteFault("the options must be NAME=VALUE, joined by &") from None
        if len({name for name, _ in pairs}) != len(pairs):
            raise RouteFault("an option is given twice")
        return self.read(dict(pairs))

    def _read(self, options: Mapping[str, str]) -> Route:
        unknown = sorted(set(options) - set(_READERS) - {"app"})
        if unknown:
            known = ", ".join(sorted({*_READERS, "app"}))
            raise RouteFault(f"{unknown[0][:100]!r} is no option of a route; there are {known}")
        app = options.get("app", "")
        if app and app not in self._audiences:
            raise RouteFault(f"app: the configuration of the gateway names no app {app[:100]!r}")
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name != "app":
                field, read = _READERS[name]
                values[field] = read(name, value)
        route = Route(**values, app=app, audience=self._audiences.get(app, ""))
        if route.session is not Need.REQUIRED and (route.auth_methods or route.max_age is not None):
            raise RouteFault("max_age and auth_methods are for session=required alone")
        return route


def _one_of(kinds: type[_E]) -> Callable[[str, str], _E]:
    def read(name: str, value: str) -> _E:
        try:
            return kinds(value)
        except ValueError:
            choices = ", ".join(kind.value for kind in kinds)
            raise RouteFault(f"{name}: must be one of {choices}") from None

    return read


def _age(name: str, value: str) -> timedelta:
    try:
        found = parse_duration(value)
    except ValueError as error:
        raise RouteFault(f"{name}: {error}") from None
    assert isinstance(found, timedelta)
    if found < timedelta(0):
        raise RouteFault(f"{name}: must not be negative")
    return found


def _methods(name: str, value: str) -> tuple[str, ...]:
    methods = tuple(dict.fromkeys(re.split("[ ,]+", value.strip(" ,"))))
    if not all(map(_METHOD.fullmatch, methods)):
        raise RouteFault(f"{name}: must be names like otp,hwk")
    return methods


# Each key is the name of an option. Each value has the field of `Route`, and the function that
# reads the text of the option.
_READERS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "session": ("session", _one_of(Need)),
    "max_age": ("max_age", _age),
    "auth_methods": ("auth_methods", _methods),
    "sign_in": ("sign_in", _one_of(SignIn)),
    "preflight": ("preflights", _one_of(Preflights)),
    "credentials": ("credentials", _one_of(Credentials)),
}
