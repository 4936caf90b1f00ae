"""Defines the settings of the page "My devices" of an app."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from session_authority_client._shared.local_paths import local_path, with_next
from session_authority_client.devices.catalogue import Message, checked_messages
from session_authority_client.devices.locales import zone_named

Headers = Mapping[str, Sequence[str]]
"""The headers of a request, by their names in lower case."""

_MOUNT = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)
_URL = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class DevicesPage:
    """The settings of the page with a user's devices, and of its API. The page and the API are
    below one path of the app.

    `path` is the path of the page. With "/devices", the page is at "/devices" and the API below
    "/devices/api". The app needs no route for the paths of the page and the API, because the
    middleware answers the requests. `path` is the path that browsers see. If the app is served
    below a prefix, `path` includes this prefix.

    `secure_account_url` is the URL of the app's own page where users set a new password.
    `secure_account_url` is a path of the app, or an https URL. The page of devices links to
    `secure_account_url` for users who say "That wasn't me". If the URL is a path, the link has a
    field `next` in its query. If `secure_account_url` already has a field `next`, the link keeps
    this field unchanged. `next` is the path of a page that offers to sign out all other devices.
    After the password is changed, redirect the user to the path that `visit.next_path()` returns.
    If `secure_account_url` is None, users who say "That wasn't me" get the offer to sign out all
    other devices at once.

    `language` is the language of all texts ("de"), or a function that chooses the language from the
    headers of a request. For example, the function reads a cookie of the app. If `language` is
    empty, or the function returns an empty text, `Accept-Language` decides.

    `messages` adds or changes texts, by language and key: `{"de": {"title": "Meine Geräte"}}`. The
    texts in `messages` may also be in a language that this package does not have. If a language
    lacks a text, the English text is used.

    `time_zone` is the time zone of the times that are shown ("Europe/Berlin"), or a function that
    chooses the time zone from the headers of a request. For example, the function reads a cookie
    that a script of the app sets. If `time_zone` is empty, times are shown in UTC. If the function
    returns an unknown name, the time zone is also UTC. The custom element uses the time zone of the
    reader's browser.

    If `scripted` is True, the page loads the custom element `<session-devices>`. In a browser that
    runs JavaScript, the element does the same as the page, but without loading new pages.

    Raises ValueError or TypeError for a wrong setting, and ImportError if Babel is not installed.
    """

    path: str = "/devices"
    secure_account_url: str | None = None
    language: str | Callable[[Headers], str] = ""
    messages: Mapping[str, Mapping[str, Message]] = field(default_factory=dict)
    scripted: bool = False
    time_zone: str | Callable[[Headers], str] = ""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not _MOUNT.fullmatch(self.path):
            raise ValueError('path: must be a path without a slash at its end, like "/devices"')
        if local_path(self.path, "") != self.path or _has_dots(self.path):
            raise ValueError("path: must name one path of this app")
        if self.secure_account_url is not None and not _is_safe(self.secure_account_url):
            raise ValueError("secure_account_url: must be a path of the app, or an https URL")
        if not isinstance(self.scripted, bool):
            raise TypeError("scripted: must be True or False")
        if not callable(self.time_zone) and zone_named(self.time_zone) is None:
            raise ValueError(
                "time_zone: must be a name of the IANA database, like 'Europe/Berlin', or a"
                " function; where the system has no such database, pip install tzdata"
            )
        checked_messages(self.messages)
        if find_spec("babel") is None:
            raise ImportError(
                "DevicesPage needs Babel: pip install 'session-authority-client[devices]'"
            )

    @property
    def password_url(self) -> str | None:
        """The URL of the app's page for a new password, or None if the app has no page for this. If
        the URL is a path, the field `next` in its query is the path to which the user returns.
        """
        url = self.secure_account_url
        return url and with_next(url, f"{self.path}/secure?done=password")

    def serves(self, target: str) -> bool:
        """Returns True if the target of a request (its path with its query) is the path of the page
        or a path below the page.
        """
        path = unquote(target.partition("?")[0])
        return path == self.path or path.startswith(f"{self.path}/")


def _has_dots(path: str) -> bool:
    return any(set(segment) == {"."} for segment in path.split("/"))


def _is_safe(url: str) -> bool:
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(local_path(url, "")) or (parts.scheme == "https" and bool(parts.netloc))
