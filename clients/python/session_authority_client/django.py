"""For projects of Django: `session_authority_client.django.SessionAuthorityMiddleware` in MIDDLEWARE, as far up as may be.

The settings have `SESSION_AUTHORITY`, a function that makes a client, and may have `SESSION_AUTHORITY_FLOW`, a `Flow`. The
visit is at `request.visit`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from session_authority_client._sync.visit import Visit, Visits
from session_authority_client.flow import VARIES, Flow, Refused
from session_authority_client.wsgi import headers_of

__all__ = ["SessionAuthorityMiddleware", "Visit", "require_session", "visit_of"]


def visit_of(request: HttpRequest) -> Visit:
    """The visit of a request: who it is, if anybody, and signing in and out."""
    visit = getattr(request, "visit", None)
    if not isinstance(visit, Visit):
        raise RuntimeError("SessionAuthorityMiddleware is not in MIDDLEWARE")
    return visit


def require_session(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A view for those who are signed in. Others are answered 401, or sent to sign in; 503 if that is unknown."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        visit_of(request).require()
        response = view(request, *args, **kwargs)
        patch_vary_headers(
            response, VARIES
        )  # here, too: a decorator that caches the view looks at no middleware's headers
        return response

    return guarded


class SessionAuthorityMiddleware:
    """Knows who is signed in, request by request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._visits = Visits(settings.SESSION_AUTHORITY, getattr(settings, "SESSION_AUTHORITY_FLOW", None) or Flow())

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """A request."""
        visit = self._visits.open(request.method or "", headers_of(request.META), request.META.get("REMOTE_ADDR", ""))
        request.visit = visit
        response = self._get_response(request)
        patch_vary_headers(response, VARIES)
        for cookie in visit.close():
            response.cookies.load(cookie)
            response.headers["Cache-Control"] = "no-store"
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """The answer to what a view refused."""
        if not isinstance(exception, Refused):
            return None
        answer = exception.answer
        body = b"" if request.method == "HEAD" else answer.body
        return HttpResponse(body, status=answer.status, headers=dict(answer.headers))
