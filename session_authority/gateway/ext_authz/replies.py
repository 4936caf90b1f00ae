"""Encodes the gateway's answers as messages for Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

from session_authority.gateway.answers import Answer
from session_authority.gateway.identity import Pairs
from session_authority.internal.v1 import external_authorization_pb2 as pb

_APPEND = pb.HeaderValueOption.HEADER_APPEND_ACTION_APPEND_IF_EXISTS_OR_ADD
_OVERWRITE = pb.HeaderValueOption.HEADER_APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD
# The gateway's values of these response headers are added to the values that the app sends. For any
# other header, the gateway's value replaces the app's value.
_ADDED = frozenset({"accept-ch", "set-cookie", "vary", "www-authenticate"})
# The codes for allowed, denied and failed requests are status codes of gRPC. Envoy only checks
# whether a code is zero.
_OK, _PERMISSION_DENIED, _UNAVAILABLE = 0, 7, 14
# The encoded replies that were used last are cached, as the reply for a user seldom changes. A
# cached reply takes about 2 KB of memory. Long replies are not cached, because a client could fill
# the memory with long cookies for the app. All cached replies together take at most 32 MB.
_KEPT_REPLIES = 4096
_MAX_KEPT_CHARS = 4096


def allowed(answer: Answer) -> bytes:
    """Returns the encoded reply for a request that goes on to the app."""
    reply = _plainly_allowed if _is_kept(answer) else _plainly_allowed.__wrapped__
    return reply(answer.upstream, answer.removed, (*_response_headers(answer),), _metadata(answer))


def _is_kept(answer: Answer) -> bool:
    if answer.cookies:
        return False
    return sum(map(len, (*chain(*answer.upstream), *answer.removed))) <= _MAX_KEPT_CHARS


@lru_cache(maxsize=_KEPT_REPLIES)
def _plainly_allowed(
    upstream: Pairs, removed: tuple[str, ...], response: Pairs, metadata: Pairs
) -> bytes:
    return pb.CheckResponse(
        status=pb.CheckResponse.Status(code=_OK),
        ok_response=pb.OkHttpResponse(
            headers=[_option(name, value, _OVERWRITE) for name, value in upstream],
            headers_to_remove=removed,
            response_headers_to_add=[_of_response(*pair) for pair in response],
        ),
        dynamic_metadata=dict(metadata),
    ).SerializeToString()


def denied(answer: Answer) -> bytes:
    """Returns the encoded reply for a request that is denied."""
    return pb.CheckResponse(
        status=pb.CheckResponse.Status(code=_PERMISSION_DENIED),
        denied_response=_response(answer),
        dynamic_metadata=dict(_metadata(answer)),
    ).SerializeToString()


def failed(answer: Answer) -> bytes:
    """Returns the encoded reply for a request that could not be checked, because the service gave
    no answer.

    Envoy treats this reply as an error and not as a denial, so Envoy's setting `failure_mode_allow`
    applies. If this setting is false, Envoy sends the status and the headers of the reply to the
    client.
    """
    return pb.CheckResponse(
        status=pb.CheckResponse.Status(code=_UNAVAILABLE), error_response=_response(answer)
    ).SerializeToString()


def _response(answer: Answer) -> pb.DeniedHttpResponse:
    return pb.DeniedHttpResponse(
        status=pb.DeniedHttpResponse.HttpStatus(code=answer.status),
        headers=[_of_response(*pair) for pair in _response_headers(answer)],
        body=answer.body.decode(errors="replace"),
    )


def _response_headers(answer: Answer) -> Iterator[tuple[str, str]]:
    yield from answer.headers
    for cookie in answer.cookies:
        yield "Set-Cookie", cookie


def _of_response(name: str, value: str) -> pb.HeaderValueOption:
    return _option(name, value, _APPEND if name.lower() in _ADDED else _OVERWRITE)


def _option(
    name: str, value: str, action: pb.HeaderValueOption.HeaderAppendAction
) -> pb.HeaderValueOption:
    return pb.HeaderValueOption(
        header=pb.HeaderValue(key=name.encode(), value=_text(value)),
        append_action=action,
        keep_empty_value=True,
    )


def _text(value: str) -> bytes:
    """Returns the bytes of a header value. If the value comes from the client, the result has the
    bytes that the client sent. But Envoy accepts only UTF-8, so bytes that are not valid UTF-8 are
    replaced by U+FFFD.
    """
    if value.isascii():
        return value.encode()
    return value.encode("latin-1", "replace").decode(errors="replace").encode()


def _metadata(answer: Answer) -> Pairs:
    """Returns the facts of a request that Envoy's access logs may show, and the reason of a
    denial.
    """
    session = answer.session
    named = (
        ("user", "" if session is None else session.user_id),
        ("session", "" if session is None else session.session_id),
        ("device", answer.device_id),
        ("denial", answer.code),
    )
    return tuple(pair for pair in named if pair[1])
