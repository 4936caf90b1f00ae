"""Finds the route of a request to the page "My devices" or its API. One table lists all paths and
methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote


class Action(Enum):
    """The action that a request to the page or its API asks for."""

    PAGE = "page"
    ASK_OTHERS = "ask: others"
    ASK_NOT_ME = "ask: not me"
    SECURE = "secure"
    FORM_RENAME = "form: rename"
    FORM_SIGN_OUT = "form: sign out"
    FORM_NOT_ME = "form: not me"
    FORM_OTHERS = "form: others"
    STATIC = "static"
    OPENAPI = "openapi"
    MESSAGES = "messages"
    LIST = "list"
    RENAME = "rename"
    SIGN_OUT_DEVICE = "sign out device"
    NOT_ME = "not me"
    SIGN_OUT_OTHERS = "sign out others"
    SIGN_OUT_HERE = "sign out here"


_NAMED = "*"
# Maps each path below the path of the page to its methods and their actions. A `*` in a path stands
# for a device ID or the name of a file.
ROUTES: Mapping[tuple[str, ...], Mapping[str, Action]] = {
    (): {"GET": Action.PAGE},
    ("sign-out-others",): {"GET": Action.ASK_OTHERS, "POST": Action.FORM_OTHERS},
    ("not-me",): {"GET": Action.ASK_NOT_ME, "POST": Action.FORM_NOT_ME},
    ("secure",): {"GET": Action.SECURE},
    ("rename",): {"POST": Action.FORM_RENAME},
    ("sign-out",): {"POST": Action.FORM_SIGN_OUT},
    ("static", _NAMED): {"GET": Action.STATIC},
    ("api", "openapi.json"): {"GET": Action.OPENAPI},
    ("api", "messages"): {"GET": Action.MESSAGES},
    ("api", "devices"): {"GET": Action.LIST},
    ("api", "devices", _NAMED, "rename"): {"POST": Action.RENAME},
    ("api", "devices", _NAMED, "sign-out"): {"POST": Action.SIGN_OUT_DEVICE},
    ("api", "devices", _NAMED, "not-me"): {"POST": Action.NOT_ME},
    ("api", "sign-out-others"): {"POST": Action.SIGN_OUT_OTHERS},
    ("api", "sign-out"): {"POST": Action.SIGN_OUT_HERE},
}
# The responses to requests for these actions are the same for all users, so the requests need no
# session.
PUBLIC = frozenset({Action.STATIC, Action.OPENAPI, Action.MESSAGES})


@dataclass(frozen=True, slots=True)
class Route:
    """The route of a request. `action` is None if the table `ROUTES` does not have the path, or if
    the path does not allow the request's method. `allowed` names the methods that the path allows.
    `name` is the device ID or the file's name in the path. `is_api` is True for the paths of the
    API and of files. Errors at the paths of the API and of files are JSON.
    """

    action: Action | None
    name: str = ""
    allowed: tuple[str, ...] = ()
    is_api: bool = False

    @property
    def allow(self) -> tuple[tuple[str, str], ...]:
        """The `Allow` header with the methods that the path allows. The tuple is empty if the table
        `ROUTES` does not have the path.
        """
        return (("Allow", ", ".join(self.allowed)),) if self.allowed else ()


def route_of(mount: str, method: str, target: str) -> Route:
    """Returns the route of a request. `mount` is the path of the page. `target` is the path of the
    page, or a path below it, with the query.
    """
    path = unquote(target.partition("?")[0])
    segments = tuple(path.removeprefix(mount).rstrip("/").split("/")[1:])
    is_api = segments[:1] in (("api",), ("static",))
    for pattern, methods in ROUTES.items():
        if len(pattern) != len(segments) or not all(
            wanted in (_NAMED, given) for wanted, given in zip(pattern, segments, strict=True)
        ):
            continue
        name = next(
            (s for wanted, s in zip(pattern, segments, strict=True) if wanted == _NAMED), ""
        )
        action = methods.get("GET" if method == "HEAD" else method)
        heads = ("HEAD",) if "GET" in methods else ()
        return Route(action, name, (*methods, *heads), is_api)
    return Route(None, is_api=is_api)
