"""Reads the endpoints file, a TOML file that lists the endpoints to which events are delivered.

One error reports the faults of all fields. Each fault names the field and the rule that the field
breaks. The fault also names the endpoint, if the field belongs to an endpoint. Text that looks like
a secret is not shown.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

import httpx
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from session_authority.domain.events import EventType
from session_authority.relay.endpoints import (
    DEFAULT_IN_FLIGHT,
    DEFAULT_TIMEOUT,
    SECRET_PREFIX,
    Endpoint,
    EndpointsError,
)
from session_authority.runtime.addresses import is_loopback
from session_authority.runtime.durations import Duration
from session_authority.runtime.files import exposure
from session_authority.runtime.toml_files import faults_of, raise_faults, read_toml

_MIN_TIMEOUT, _MAX_TIMEOUT = timedelta(milliseconds=100), timedelta(seconds=60)
_MAX_IN_FLIGHT = 256
_SECRET_BYTES = range(24, 65)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_TYPES = {kind.name: kind for kind in EventType if kind is not EventType.UNKNOWN}


def load_endpoints(path: Path) -> tuple[Endpoint, ...]:
    """Reads the endpoints from a TOML file. Raises EndpointsError if the file can't be read, breaks
    a rule, or exposes secrets to other users of the machine.
    """
    faults: list[str] = []
    try:
        found = read_toml(path)
        file = _EndpointsFile.model_validate(found, context=_Context(path.parent))
    except ValidationError as error:
        faults = faults_of(error, partial(_in_words, found))
    except ValueError as error:
        raise EndpointsError(str(error)) from None
    faults += [f"secrets: {fault}" for fault in _exposure_of_secrets(path, found)]
    if faults:
        raise EndpointsError("\n".join(f"{path}: {fault}" for fault in faults))
    private_hosts = {host.lower() for host in file.private_hosts}
    return tuple(table.endpoint(private_hosts) for table in file.endpoint)


def _exposure_of_secrets(path: Path, found: Mapping[str, Any]) -> list[str]:
    """Returns the faults that expose the file to other users of the machine, such as a file mode.
    Returns no faults if the file contains no secrets.
    """
    tables = found.get("endpoint")
    if isinstance(tables, list) and any(
        isinstance(table, dict) and table.get("secrets") for table in tables
    ):
        return exposure(path, "the secrets")
    return []


@dataclass(slots=True)
class _Context:
    """Gives the validators the folder of the endpoints file, and the names of the endpoints that
    were read so far.
    """

    folder: Path
    names: set[str] = field(default_factory=set)


def _name(name: str, info: ValidationInfo) -> str:
    assert isinstance(info.context, _Context)
    raise_faults(["is taken by another endpoint"] if name in info.context.names else [])
    info.context.names.add(name)
    return name


def _texts(value: object) -> list[str]:
    if isinstance(value, list) and all(
        isinstance(text, str) and text and text.isprintable() for text in value
    ):
        return value
    raise ValueError("must be a list of printable texts, none of them empty")


def _types(value: object) -> frozenset[EventType]:
    names, rule = _texts(value), f"is no type of event; there are {', '.join(_TYPES)}"
    raise_faults([f"{name!r} {rule}" for name in names if name not in _TYPES])
    return frozenset(_TYPES[name] for name in names)


def _secrets(value: object) -> list[bytes]:
    secrets, faults = _decoded(_texts(value))
    raise_faults(faults)
    return secrets


def _secret_files(value: object, info: ValidationInfo) -> list[bytes]:
    assert isinstance(info.context, _Context)
    found: list[bytes] = []
    faults: list[str] = []
    for name in _texts(value):
        if name.startswith(SECRET_PREFIX):  # the fault must not show a secret as a file's name
            faults.append("must be names of files; a secret itself belongs in secrets")
            continue
        path = info.context.folder / name
        try:
            faults += exposure(path, "the secrets")
            lines = filter(None, map(str.strip, path.read_text("utf-8").splitlines()))
            secrets, wrong = _decoded(lines)
            found += secrets
            faults += wrong
        except OSError as error:
            faults.append(f"{path} can't be read: {error.strerror}")
        except UnicodeDecodeError:
            faults.append(f"{path} is not UTF-8")
    raise_faults(faults)
    if not found and info.data.get("secrets") == []:
        rule = "there must be at least one, here or in secret_files; `relay secret` makes one"
        raise PydanticCustomError("no_secret", rule)
    return found


def _decoded(texts: Iterable[str]) -> tuple[list[bytes], list[str]]:
    """Decodes secrets from their texts. Returns the secrets, and a fault for each text that is not
    a secret.
    """
    secrets: list[bytes] = []
    faults: list[str] = []
    for text in texts:
        try:
            secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:  # the text is not base64, or not ASCII
            secret = b""
        if text.startswith(SECRET_PREFIX) and len(secret) in _SECRET_BYTES:
            secrets.append(secret)
        else:
            faults.append(f"each must be {SECRET_PREFIX} and the base64 of 24 to 64 bytes")
    return secrets, faults


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    rule = "must have a port from 1 to 65535" if port == 0 else _rule_of_url(url, parts, host)
    raise_faults([rule] if rule else [])
    return url


class _EndpointTable(BaseModel):
    """Validates the table of one endpoint in the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$"), AfterValidator(_name)]
    url: Annotated[str, AfterValidator(_url)]
    secrets: Annotated[list[bytes], PlainValidator(_secrets)] = []
    secret_files: Annotated[
        list[bytes], PlainValidator(_secret_files), Field(validate_default=True)
    ] = []
    types: Annotated[frozenset[EventType], PlainValidator(_types)] = frozenset()
    timeout: Annotated[Duration, Field(ge=_MIN_TIMEOUT, le=_MAX_TIMEOUT)] = DEFAULT_TIMEOUT
    max_in_flight: Annotated[int, Field(ge=1, le=_MAX_IN_FLIGHT)] = DEFAULT_IN_FLIGHT

    def endpoint(self, private_hosts: Collection[str]) -> Endpoint:
        """Returns the endpoint that this table describes."""
        return Endpoint(
            name=self.name,
            url=self.url,
            secrets=(*self.secrets, *self.secret_files),
            types=self.types,
            timeout=self.timeout,
            max_in_flight=self.max_in_flight,
            private=(urlsplit(self.url).hostname or "").lower() in private_hosts,
        )


class _EndpointsFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    private_hosts: Annotated[list[str], PlainValidator(_texts)] = []
    endpoint: Annotated[list[_EndpointTable], Field(min_length=1, validate_default=True)] = []


# The texts of the rules, for faults that pydantic finds. A key is the name of the field that breaks
# a rule. If the dict has no such key, the key is pydantic's type of the error.
_RULES: dict[int | str, str] = {
    "name": "must be 1 to 32 lower-case letters, digits or '-'",
    "url": "must be given",
    "timeout": "must be from 100ms to 60s",
    "max_in_flight": f"must be a number from 1 to {_MAX_IN_FLIGHT}",
    "list_type": "must be tables, each under [[endpoint]]",
    "model_type": "must be tables, each under [[endpoint]]",
    "too_short": "there must be at least one [[endpoint]]",
}


def _in_words(found: Mapping[str, Any], fault: ErrorDetails) -> tuple[str, str]:
    """Returns the field that has a fault, with its endpoint if there is one, and the rule that the
    field breaks. `found` is the parsed content of the file.
    """
    kind, (first, *rest) = fault["type"], fault["loc"]
    number, field = rest[:2] if len(rest) > 1 else (None, first)
    if kind == "extra_forbidden":
        known = "private_hosts and [[endpoint]]"
        if number is not None:
            known = ", ".join(sorted(_EndpointTable.model_fields))
        rule = f"is not known; there are {known}"
    elif kind in ("value_error", "no_secret"):  # a validator of this module wrote the message
        rule = fault["msg"]
    else:
        rule = _RULES.get(field) or _RULES.get(kind, fault["msg"])
    if number is None:
        return str(field), rule
    name = found["endpoint"][number].get("name")
    which = repr(name) if isinstance(name, str) and name else f"number {int(number) + 1}"
    return f"endpoint {which}: {'secrets' if kind == 'no_secret' else field}", rule


def _rule_of_url(url: str, parts: SplitResult, host: str) -> str:
    """Returns the rule that a URL breaks, or an empty text if the URL breaks no rule."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be ASCII without white space; write other host names as punycode"
    if parts.scheme not in ("https", "http") or not host:
        return "must start with https:// and name a host"
    if parts.username is not None or parts.password is not None:
        return "must have no user name or password"
    if "#" in url:
        return "must have no fragment"
    if ":" not in host and _HOST.fullmatch(host) is None:
        return "must name a host"
    if parts.scheme == "http" and not is_loopback(host, mapped=False):
        return "must be https, unless it is on this machine"
    try:
        httpx.URL(url)  # httpx has more rules: it refuses the host 0177.0.0.1
    except httpx.InvalidURL:
        return "must name a host"
    return ""
