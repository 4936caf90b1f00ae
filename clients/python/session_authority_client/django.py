"""Provides middleware for Django. Put `session_authority_client.django.SessionAuthorityMiddleware`
in MIDDLEWARE, as near to the top as possible.

In Django's settings, set `SESSION_AUTHORITY` to a function that makes a client. You can also set
`SESSION_AUTHORITY_FLOW` to a `Flow`. Views find the visit at `request.visit`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from datetime import timedelta
from functools import partial, wraps
from itertools import chain, islice
from typing import Any, overload

from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.utils.cache import patch_vary_headers

from session_authority_client._shared.refusals import find, is_chosen, is_only
from session_authority_client._shared.step_up import StepUp, step_up_of
from session_authority_client._sync.primitives import Cut
from session_authority_client.adapter import (
    Response,
    Visit,
    Visits,
    answer_devices,
    public_response,
)
from session_authority_client.flow import (
    VARIES,
    Flow,
    NoAnswer,
    Refused,
    SignInRequired,
    StepUpRequired,
)
from session_authority_client.wsgi import headers_of, request_of, target_of

__all__ = ["SessionAuthorityMiddleware", "Visit", "require_session", "visit_of"]

_View = Callable[..., HttpResponseBase]


def visit_of(request: HttpRequest) -> Visit:
    """Returns the visit of a request. The visit has the user's session, if there is one, and signs
    users in and out.
    """
    visit = getattr(request, "visit", None)
    if not isinstance(visit, Visit):
        raise RuntimeError("SessionAuthorityMiddleware is not in MIDDLEWARE")
    return visit


@overload
def require_session(view: _View, /) -> _View: ...
@overload
def require_session(
    *, max_age: timedelta | None = None, auth_methods: Collection[str] | None = None
) -> Callable[[_View], _View]: ...
def require_session(
    view: _View | None = None,
    /,
    *,
    max_age: timedelta | None = None,
    auth_methods: Collection[str] | None = None,
) -> _View | Callable[[_View], _View]:
    """Limits a view to signed-in users. A client that is not signed in gets 401, or is redirected
    to the sign-in page. If the service gives no answer, the client gets 503. The arguments are
    those of `Visit.require`: `@require_session(max_age=timedelta(minutes=5))` requires a recent
    sign-in.

    Raises ValueError and TypeError for wrong arguments.
    """
    wanted = step_up_of(max_age, auth_methods)  # wrong arguments raise here, before any request
    return partial(_guarded, wanted) if view is None else _guarded(wanted, view)


def _guarded(wanted: StepUp, view: _View) -> _View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        visit = visit_of(request)
        visit.require(max_age=wanted.max_age, auth_methods=wanted.auth_methods or None)
        response = view(request, *args, **kwargs)
        # The middleware also adds this `Vary` header. But a decorator that caches the view's
        # response sees only the headers that the response has before it reaches the middleware.
        patch_vary_headers(response, VARIES)
        return response

    return guarded


class SessionAuthorityMiddleware:
    """Finds out for each request who is signed in. If a view, or middleware that is later in
    MIDDLEWARE, raises `Refused`, this middleware sends the response that the exception contains.

    Django's own CsrfViewMiddleware may be used together with this middleware.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._flow = getattr(settings, "SESSION_AUTHORITY_FLOW", None) or Flow()
        self._visits = Visits(settings.SESSION_AUTHORITY, self._flow, _dress)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Handles a request: opens its visit, gets the app's response, and adds the visit's
        cookies.
        """
        method, headers = request.method or "", headers_of(request.META)
        peer, target = request.META.get("REMOTE_ADDR", ""), target_of(request.META)
        mounted = self._flow.devices_at(target)
        if mounted is not None:
            public = public_response(mounted, method, target, headers)
            if public is not None:
                return _made(request, public)
        try:
            visit = self._visits.open(method, headers, peer, target)
        except Refused as unopened:
            return _varying(_answer(request, unopened))
        request.visit = visit
        if mounted is None:
            response = self._get_response(request)
        else:
            asked = request_of(request.META, target, _reader_of(request))
            response = _made(request, answer_devices(mounted, visit, asked))
        refused = visit.take_refusal()
        if refused is not None and _is_made_of(response.status_code, refused):
            response.close()
            response = _answer(request, refused)
        response = _begun(request, response)
        # If this middleware is twice in MIDDLEWARE, `request.visit` is the visit of the inner
        # middleware.
        for name in [name for name in response.cookies if visit.owns(name, request.visit)]:
            del response.cookies[name]
        visit.close()
        for cookie in visit.added_to(response.cookies):
            response.cookies.load(cookie)
        _tell_caches(response, visit)
        _end_with_session(response, visit)
        if accept_ch := self._flow.accept_ch(method, headers, peer, request.scheme or ""):
            apps = response.headers.get("Accept-CH")
            response.headers["Accept-CH"] = f"{apps}, {accept_ch}" if apps else accept_ch
        return _varying(response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Returns the response of a refusal that a view raised. Returns None if the exception is no
        refusal.
        """
        refused = find(exception, Refused) if is_only(exception, Refused) else None
        return None if refused is None else _answer(request, refused)


def _reader_of(request: HttpRequest) -> Callable[[int], bytes]:
    """Returns the function that reads the body of a request. For a chunked body, returns the
    server's own function, because Django treats a body without a length as empty.
    """
    chunked = request.META.get("wsgi.input_terminated") and not request.META.get("CONTENT_LENGTH")
    read: Callable[[int], bytes] = request.META["wsgi.input"].read if chunked else request.read
    return read


def _answer(request: HttpRequest, refused: Refused) -> HttpResponse:
    return _made(request, refused.answer)


def _made(request: HttpRequest, made: Response) -> HttpResponse:
    body = b"" if request.method == "HEAD" else made.body
    return HttpResponse(body, status=made.status, headers=dict(made.headers))


def _tell_caches(response: HttpResponseBase, visit: Visit) -> None:
    headers = response.headers
    caching = visit.caching(list(headers), headers.get("Content-Type", ""))
    for name in [name for name in headers if not caching.keeps(name)]:
        del headers[name]
    for name, value in caching.added:
        said = headers.get(name)
        headers[name] = f"{said}, {value}" if said else value


def _end_with_session(response: HttpResponseBase, visit: Visit) -> None:
    """If the response is an event stream, makes the stream end after the session has ended, before
    the next part of the stream is sent. Does nothing for a stream with asynchronous parts: only the
    ASGI middleware can end such a stream.
    """
    kind = response.headers.get("Content-Type", "")
    streams = isinstance(response, StreamingHttpResponse) and not response.is_async
    if streams and kind.startswith("text/event-stream"):
        cut = Cut()
        visit.hang_up_at_end(cut.cut)
        response.streaming_content = _leaving(visit, cut.each(response.streaming_content))


def _leaving(visit: Visit, parts: Generator[bytes, None, None]) -> Iterator[bytes]:
    try:
        yield from parts
    finally:
        visit.leave()


def _begun(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Makes the first part of a streaming response before the headers are sent, because the code
    that makes the parts may raise a refusal. If the code that makes the parts raises a refusal,
    returns the response of this refusal. If this code raises no refusal, returns the given
    response. Does not make the first part of a file, of an event stream, or of a stream with
    asynchronous parts.
    """
    kind = response.headers.get("Content-Type", "")
    if (
        not isinstance(response, StreamingHttpResponse)
        or isinstance(response, FileResponse)
        or response.is_async
        or kind.startswith("text/event-stream")
    ):
        return response
    parts = iter(response.streaming_content)
    try:
        first = list(islice(parts, 1))
    except Exception as error:
        refused = find(error, Refused)
        if refused is None or not is_only(error, Refused):
            raise
        response.close()
        return _answer(request, refused)
    response.streaming_content = chain(first, parts)
    return response


def _varying(response: HttpResponseBase) -> HttpResponseBase:
    patch_vary_headers(response, VARIES)
    return response


# If middleware raises an exception, Django makes a response from the exception before the next
# outer middleware continues. For an unknown exception, Django sends 500 and logs an error. For a
# BadRequest, Django sends 400, and this module replaces this 400 by the response of the refusal. So
# the refusals of this module are subclasses of BadRequest. Django also knows other exceptions than
# BadRequest, such as PermissionDenied. But frameworks that are built on Django handle
# PermissionDenied themselves, and not BadRequest.
_CONVERTED = 400


class _SignInRequired(SignInRequired, BadRequest):  # type: ignore[misc]  # Django has no types
    pass


class _NoAnswer(NoAnswer, BadRequest):  # type: ignore[misc]
    pass


class _StepUpRequired(StepUpRequired, BadRequest):  # type: ignore[misc]
    pass


def _dress(refused: Refused) -> Refused:
    if isinstance(refused, StepUpRequired):
        return _StepUpRequired(refused.code, refused.answer, refused.wanted)
    kind = _NoAnswer if isinstance(refused, NoAnswer) else _SignInRequired
    return kind(refused.code, refused.answer)


def _is_made_of(status: int, refused: Refused) -> bool:
    """Returns True if Django, or a framework that is built on Django, chose the response's status
    because of the refusal. Returns False if the app itself chose the status.
    """
    if status == _CONVERTED:
        return _was_converted(refused)
    return not is_chosen(status, refused.answer.status, refused, fault=False)


def _was_converted(refused: Refused) -> bool:
    """Returns True if Django itself caught the refusal. Returns False if the app caught the refusal
    and continued. The first frame of the traceback belongs to the code that caught the refusal.
    """
    caught = refused.__traceback__
    return (
        caught is not None
        and caught.tb_frame.f_globals.get("__name__") == convert_exception_to_response.__module__
    )
