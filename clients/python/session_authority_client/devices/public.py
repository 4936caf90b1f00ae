"""Answers requests for the files and texts of the page "My devices", and for the description of its
API. The responses are the same for all users, and need no session. So this module does not call the
service. During an outage of the service, the page that reports the outage can load its style sheet
at once.
"""

from __future__ import annotations

from session_authority_client._shared.responses import Response
from session_authority_client.devices import answers, assets, failures, openapi
from session_authority_client.devices.requests import BadRequest, DevicesRequest, texts_for
from session_authority_client.devices.routes import PUBLIC, Action, route_of
from session_authority_client.devices.settings import DevicesPage, Headers


def public_response(
    page: DevicesPage, method: str, target: str, headers: Headers
) -> Response | None:
    """Returns the response to a request that needs no session, or None if the request needs a
    session.
    """
    route = route_of(page.path, method, target)
    if route.action not in PUBLIC:
        return None
    request = DevicesRequest(method, target, headers)
    try:
        query = request.query()
    except BadRequest as error:
        return failures.response(page, request, failures.failure_of(error))
    if route.action is Action.OPENAPI:
        return answers.answer(200, openapi.document(page.path))
    if route.action is Action.STATIC:
        found = assets.asset(route.name)
        if found is None:
            return failures.response(page, request, failures.Failure("not_found"))
        return assets.serve(found, query.get("v", ""))
    texts = texts_for(page, request.headers, query.get("language", ""))
    told = {
        "language": texts.language,
        "direction": texts.direction,
        "messages": dict(texts.messages),
    }
    return answers.answer(200, told)
