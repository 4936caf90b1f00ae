"""Makes requests as Envoy does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from session_authority.internal.v1 import external_authorization_pb2 as pb

ADD = pb.HeaderValueOption.HEADER_APPEND_ACTION_APPEND_IF_EXISTS_OR_ADD
CLIENT = "203.0.113.7"


def check_request(
    headers: Iterable[tuple[str, str | bytes]] = (),
    *,
    method: str = "GET",
    target: str = "/page?x=1",
    host: str = "app.example",
    peer: str = CLIENT,
    raw: bool = False,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """A serialized request. With `raw`, the headers are as Envoy sends them with
    `encode_raw_headers`. Otherwise the values of headers with the same name are joined by commas,
    as Envoy joins them.
    """
    asked = pb.CheckRequest()
    attributes = asked.attributes
    attributes.source.address.socket_address.address = peer
    attributes.context_extensions.update(options or {})
    http = attributes.request.http
    http.method, http.path, http.host = method.encode(), target.encode(), host.encode()
    http.scheme = b"https"
    pseudo = ((":authority", host), (":method", method), (":path", target), (":scheme", "https"))
    for name, value in (*pseudo, *headers):
        line = value if isinstance(value, bytes) else value.encode("latin-1")
        if raw:
            http.header_map.headers.add(key=name.lower().encode(), raw_value=line)
        elif name.lower() in http.headers:
            http.headers[name.lower()] += b"," + line
        else:
            http.headers[name.lower()] = line
    return asked.SerializeToString()


class Reply:
    """How Envoy reads an answer."""

    def __init__(self, message: bytes) -> None:
        self.said = pb.CheckResponse.FromString(message)
        self.allowed = self.said.status.code == 0
        self.kind = self.said.WhichOneof("http_response")
        self.metadata = dict(self.said.dynamic_metadata)
        self.removed = list(self.said.ok_response.headers_to_remove)
        self.upstream = {
            option.header.key.decode(): option.header.value.decode()
            for option in self.said.ok_response.headers
        }

    @property
    def _response(self) -> pb.DeniedHttpResponse:
        response: pb.DeniedHttpResponse = getattr(self.said, str(self.kind))
        return response

    @property
    def status(self) -> int:
        return self._response.status.code

    @property
    def body(self) -> str:
        return self._response.body

    def to_client(self, name: str) -> list[str]:
        """The values of a header that the client gets. Asserts that Envoy adds each value to the
        others.
        """
        ok = self.said.ok_response.response_headers_to_add
        options = ok if self.kind == "ok_response" else self._response.headers
        found = [each for each in options if each.header.key.decode().lower() == name.lower()]
        assert len(found) < 2 or all(each.append_action == ADD for each in found)
        return [each.header.value.decode() for each in found]
