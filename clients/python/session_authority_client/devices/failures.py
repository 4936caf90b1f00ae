"""Handles failed requests to the page "My devices" and its API. This module converts an exception
to a Failure, and makes the response for the Failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from session_authority_client._shared.local_paths import local_path
from session_authority_client._shared.responses import NoAnswer, Response, SignInRequired
from session_authority_client.devices import answers
from session_authority_client.devices.answers import STATUS
from session_authority_client.devices.listing import MAX_NAME_LENGTH, BadCursor
from session_authority_client.devices.renaming import can_be_mended, refused_screen
from session_authority_client.devices.requests import BadRequest, DevicesRequest, texts_for
from session_authority_client.devices.routes import Action, route_of
from session_authority_client.devices.screens import failure_screen, signed_out_screen
from session_authority_client.devices.settings import DevicesPage, Headers
from session_authority_client.errors import (
    CallerNotAllowed,
    CallerUnknown,
    DeviceNotFound,
    InvalidRequest,
    Overloaded,
    SessionAuthorityError,
)

_RETRY_AFTER = ("Retry-After", "1")


@dataclass(frozen=True, slots=True)
class Failure:
    """Describes why a request failed: the error's code, the wrong field of the request, and headers
    for the response. `instead` is None, or a redirect to the sign-in page, which a browser gets
    instead of an error page.
    """

    code: str
    field: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    instead: Response | None = None

    @property
    def is_of_service(self) -> bool:
        """Returns True if the HTTP status of the error is 500 or more: the service failed, or the
        app may not call the service. The failure of an overloaded service does not count, because
        its status is 429.
        """
        return STATUS[self.code] >= 500


EXPECTED = (BadRequest, BadCursor, NoAnswer, SignInRequired, SessionAuthorityError)
"""The exceptions that this module converts to failures. An exception of any other class is a
programming error, and is not handled here.
"""


def failure_of(error: Exception) -> Failure:
    """Returns the Failure for an exception of a class in `EXPECTED`."""
    match error:
        case BadRequest():
            return Failure(error.code, error.field)
        case BadCursor():
            return Failure("bad_request", "after")
        case NoAnswer():
            retry = tuple(each for each in error.answer.headers if each[0] == "Retry-After")
            return _of_service(error.__cause__, *(retry or (_RETRY_AFTER,)))
        case SignInRequired():
            leads_on = error.answer.status == 303
            challenge = tuple(e for e in error.answer.headers if e[0] == "WWW-Authenticate")
            return Failure(
                "signed_out", headers=challenge, instead=error.answer if leads_on else None
            )
        case DeviceNotFound():
            return Failure("unknown_device")
        case InvalidRequest():
            return _broken_rule(error)
    return _of_service(error, _RETRY_AFTER)


def _of_service(error: BaseException | None, *retry: tuple[str, str]) -> Failure:
    """Returns the Failure for an error that the user did not cause. `retry` is a `Retry-After`
    header. If a later try can't succeed, the Failure does not contain `retry`, because with this
    header a program would repeat the request for ever.
    """
    match error:
        case CallerNotAllowed() | CallerUnknown():
            return Failure("misconfigured")
        case SessionAuthorityError() if error.code.name == "UNIMPLEMENTED":
            return Failure("misconfigured")
        case Overloaded():
            return Failure("too_many_requests", headers=retry)
    return Failure("unavailable", headers=retry)


def _broken_rule(error: InvalidRequest) -> Failure:
    rules = {violation.field: violation.description for violation in error.violations}
    if "device_id" in rules:
        return Failure("unknown_device")
    if f"at most {MAX_NAME_LENGTH}" in rules.get("display_name", ""):
        return Failure("name_too_long", "name")
    return Failure("bad_request", "name" if "display_name" in rules else "")


def response(page: DevicesPage, request: DevicesRequest, failure: Failure) -> Response:
    """Makes the response to a failed request: a JSON error for a request to the API, or a page or a
    redirect for a browser.
    """
    texts = texts_for(page, request.headers)
    route = route_of(page.path, request.method, request.target)
    if not route.is_api:
        instead = failure.instead
        if route.action is Action.FORM_RENAME and can_be_mended(failure.code):
            typed = _typed(request)
            if "device" in typed:
                names = (typed["device"], typed.get("name", ""))
                return refused_screen(page, texts, *names, failure.code, failure.headers)
        if instead is None or (request.method == "POST" and leads_elsewhere(instead)):
            if failure.code == "signed_out":
                return signed_out_screen(page, texts, failure.headers, leads_on=instead is not None)
            return failure_screen(page, texts, failure.code, failure.headers)
        return instead
    return answers.error(failure.code, texts, *failure.headers, field=failure.field)


def _typed(request: DevicesRequest) -> Mapping[str, str]:
    """Returns the fields of the form in the request, or no fields if the form can't be read."""
    try:
        return request.form()
    except BadRequest:
        return {}


def leads_elsewhere(answer: Response) -> bool:
    """Returns True if a response redirects a browser to another origin. The page's content security
    policy forbids a redirect to another origin as the response to a form.
    """
    return not local_path(dict(answer.headers).get("Location", "/"), "")


def foreign_origin(page: DevicesPage, target: str, headers: Headers) -> Response:
    """Makes the response to a request that came from a page of another origin."""
    return response(page, DevicesRequest("POST", target, headers), Failure("foreign_origin"))
