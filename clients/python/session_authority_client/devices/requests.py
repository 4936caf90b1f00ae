"""Reads requests to the page of devices and to its API: the language, the query, forms and JSON. A
malformed request raises BadRequest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from urllib.parse import parse_qsl

from session_authority_client.devices import catalogue
from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.locales import zone_named
from session_authority_client.devices.settings import DevicesPage, Headers

# The longest valid body has the name of a device. A name has at most 100 characters, and one
# character may take 12 bytes in a form.
MAX_BODY_BYTES = 8192
_MAX_FIELDS = 20


class BadRequest(ValueError):
    """The request is malformed, or names a device that is not in the user's list. `code` is a code
    in `answers.STATUS`. `field` is the name of the wrong field, or empty.
    """

    def __init__(self, code: str, field: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.field = field


@dataclass(frozen=True, slots=True)
class DevicesRequest:
    """A request to the page of devices or to its API. `target` is the path with the query. `body`
    has at most one byte more than `MAX_BODY_BYTES`, because a longer body is cut. `is_whole` is
    False if the client disconnected before the end of the body.
    """

    method: str
    target: str
    headers: Headers
    body: bytes = field(default=b"", repr=False)
    is_whole: bool = True

    def query(self) -> Mapping[str, str]:
        """Returns the fields of the query. If several fields have the same name, the last of these
        fields counts. Raises BadRequest if the query has too many fields or is not UTF-8.
        """
        return _fields(self.target.partition("?")[2])

    def form(self) -> Mapping[str, str]:
        """Returns the fields of the form in the body. If several fields have the same name, the
        last of these fields counts. Raises BadRequest if the body is no form, is incomplete or too
        large, or is not UTF-8.
        """
        kind = self._content_type()
        if (self.body or kind) and kind != "application/x-www-form-urlencoded":
            raise BadRequest("unsupported_type")
        try:
            text = self._whole_body().decode()
        except UnicodeDecodeError:
            raise BadRequest("bad_request") from None
        return _fields(text)

    def json_text(self, name: str) -> str:
        """Returns the text in the field `name` of the JSON object in the body. Raises BadRequest if
        the body is no JSON object, or if the field is missing or is no text.
        """
        self.check_type()
        try:
            sent = json.loads(self._whole_body().decode())
        except (ValueError, RecursionError):
            raise BadRequest("bad_request") from None
        value = sent.get(name) if isinstance(sent, dict) else None
        if not isinstance(value, str) or not _is_unicode(value):
            raise BadRequest("bad_request", name)
        return value

    def check_type(self) -> None:
        """Checks that the type of the body is JSON, or that the request has neither a body nor a
        type. Also checks that the body is complete and not too large. Raises BadRequest if one of
        these checks fails.
        """
        if (self.body or self._content_type()) and self._content_type() != "application/json":
            raise BadRequest("unsupported_type")
        self._whole_body()

    def _content_type(self) -> str:
        return "".join(self.headers.get("content-type", ())).partition(";")[0].strip().lower()

    def _whole_body(self) -> bytes:
        if len(self.body) > MAX_BODY_BYTES:
            raise BadRequest("too_large")
        if not self.is_whole:  # the body may have only a part of a name
            raise BadRequest("bad_request")
        return self.body


def texts_for(page: DevicesPage, headers: Headers, asked: str = "") -> Texts:
    """Returns the texts in the language of a request, with the time zone of the reader. `asked` is
    the language that the query of the request names, or empty. If there are texts in the language
    `asked`, this language has priority over the page's setting and over `Accept-Language`. An
    unknown time zone becomes UTC.
    """
    choice = page.language if isinstance(page.language, str) else page.language(headers)
    wanted: Sequence[str] = [name for name in (asked, choice) if name]
    if not wanted or (asked and not choice):
        wanted = [*wanted, *catalogue.accepted(headers.get("accept-language", ()))]
    chosen = catalogue.chosen(wanted, page.messages)
    zone = page.time_zone if isinstance(page.time_zone, str) else page.time_zone(headers)
    return catalogue.texts_in(chosen, page.messages, zone_named(zone) or UTC)


def _fields(text: str) -> Mapping[str, str]:
    """Returns the fields of a query or a form. Raises BadRequest if there are too many fields, or
    if the text is not UTF-8.
    """
    try:
        return dict(
            parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        )
    except ValueError:
        raise BadRequest("bad_request") from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # the text has half of a surrogate pair
        return False
    return True
