"""The endpoints that events are delivered to, as a TOML file names them.

Every fault of the file is named at once, by the endpoint, the field and the rule. No secret is ever
shown.
"""

from __future__ import annotations

import base64
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from session_authority.domain.events import EventType
from session_authority.runtime.addresses import is_loopback
from session_authority.runtime.durations import parse_duration
from session_authority.runtime.files import exposure

DEFAULT_TIMEOUT = timedelta(seconds=10)
DEFAULT_IN_FLIGHT = 16
_SHORTEST, _LONGEST = timedelta(milliseconds=100), timedelta(seconds=60)
_MOST_IN_FLIGHT = 256
_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
# A secret in the wrong place, which an error must not show.
_SHOWN_SECRET = re.compile(rf"{_SECRET_PREFIX}[A-Za-z0-9+/=_-]+", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_FIELDS = frozenset({"name", "url", "secrets", "secret_files", "types", "timeout", "max_in_flight"})
_TYPES = {kind.name: kind for kind in EventType if kind is not EventType.UNKNOWN}


class EndpointsError(Exception):
    """Endpoints that can't be used; the message has a line for each fault. Whatever looks like a
    secret is left out of it.
    """

    def __init__(self, faults: str) -> None:
        super().__init__(_SHOWN_SECRET.sub(f"{_SECRET_PREFIX}...", faults))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to deliver events, and which.

    `secrets` all sign, the newest first. `types` empty means all. `timeout` is for one whole
    exchange, `max_in_flight` for all partitions together. `private` allows addresses that are not
    on the public Internet.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    types: frozenset[EventType] = frozenset()
    timeout: timedelta = DEFAULT_TIMEOUT
    max_in_flight: int = DEFAULT_IN_FLIGHT
    private: bool = False


def new_secret() -> str:
    """A secret to sign with, in the form of the Standard Webhooks specification: 32 random
    bytes.
    """
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def load_endpoints(path: Path) -> tuple[Endpoint, ...]:
    """The endpoints of a TOML file. Raises EndpointsError."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EndpointsError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EndpointsError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise EndpointsError(f"{path}: is not TOML: {error}") from None
    reading = _Reading(path)
    endpoints = reading.endpoints(found)
    reading.refuse_shown_secrets(found)
    if reading.faults:
        raise EndpointsError("\n".join(f"{path}: {fault}" for fault in reading.faults))
    return endpoints


class _Reading:
    """Collects faults while it reads."""

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []
        self._path = path
        self._about = ""

    def _broken(self, name: str, rule: str) -> None:
        self.faults.append(f"{self._about}{name}: {rule}")

    def endpoints(self, found: Mapping[str, Any]) -> tuple[Endpoint, ...]:
        for name in sorted(found.keys() - {"endpoint", "private_hosts"}):
            self._broken(name, "is not known; there are private_hosts and [[endpoint]]")
        hosts = frozenset(host.lower() for host in self._texts(found, "private_hosts"))
        tables = found.get("endpoint", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._broken("endpoint", "must be tables, each under [[endpoint]]")
            return ()
        if not tables:
            self._broken("endpoint", "there must be at least one [[endpoint]]")
        endpoints: list[Endpoint] = []
        for number, table in enumerate(tables, start=1):
            name = table.get("name")
            self._about = (
                f"endpoint {name!r}: "
                if isinstance(name, str) and name
                else f"endpoint number {number}: "
            )
            endpoint = self._endpoint(table, hosts)
            if endpoint.name and any(other.name == endpoint.name for other in endpoints):
                self._broken("name", "is taken by another endpoint")
            endpoints.append(endpoint)
        return tuple(endpoints)

    def _endpoint(self, table: Mapping[str, Any], private_hosts: frozenset[str]) -> Endpoint:
        for name in sorted(table.keys() - _FIELDS):
            self._broken(name, f"is not known; there are {', '.join(sorted(_FIELDS))}")
        name = table.get("name", "")
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            self._broken("name", "must be 1 to 32 lower-case letters, digits or '-'")
            name = ""
        url, host = self._url(table.get("url"))
        return Endpoint(
            name=name,
            url=url,
            secrets=self._secrets(table),
            types=self._types(table),
            timeout=self._timeout(table.get("timeout")),
            max_in_flight=self._in_flight(table.get("max_in_flight", DEFAULT_IN_FLIGHT)),
            private=host.lower() in private_hosts,
        )

    def _texts(self, table: Mapping[str, Any], name: str) -> list[str]:
        texts = table.get(name, [])
        if isinstance(texts, list) and all(
            isinstance(text, str) and text and text.isprintable() for text in texts
        ):
            return texts
        self._broken(name, "must be a list of printable texts, none of them empty")
        return []

    def _url(self, url: object) -> tuple[str, str]:
        """The URL, and its host."""
        if not isinstance(url, str):
            self._broken("url", "must be given")
            return "", ""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            self._broken("url", "is not a URL")
            return "", ""
        rule = "must have a port from 1 to 65535" if port == 0 else _rule_of_url(url, parts, host)
        if rule:
            self._broken("url", rule)
            return "", ""
        return url, host

    def _types(self, table: Mapping[str, Any]) -> frozenset[EventType]:
        types = self._texts(table, "types")
        for name in types:
            if name not in _TYPES:
                self._broken(
                    "types", f"{name!r} is no type of event; there are {', '.join(_TYPES)}"
                )
        return frozenset(_TYPES[name] for name in types if name in _TYPES)

    def _timeout(self, value: object) -> timedelta:
        if value is None:
            return DEFAULT_TIMEOUT
        try:
            timeout = parse_duration(value)
        except ValueError as error:
            self._broken("timeout", str(error))
            return DEFAULT_TIMEOUT
        assert isinstance(timeout, timedelta)
        if not _SHORTEST <= timeout <= _LONGEST:
            self._broken("timeout", "must be from 100ms to 60s")
        return timeout

    def _in_flight(self, value: object) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not 1 <= value <= _MOST_IN_FLIGHT
        ):
            self._broken("max_in_flight", f"must be a number from 1 to {_MOST_IN_FLIGHT}")
            return DEFAULT_IN_FLIGHT
        return value

    def _secrets(self, table: Mapping[str, Any]) -> tuple[bytes, ...]:
        before = len(self.faults)
        found = [self._secret("secrets", text) for text in self._texts(table, "secrets")]
        for name in self._texts(table, "secret_files"):
            if name.startswith(
                _SECRET_PREFIX
            ):  # it must not be shown as the name of a file that is missing
                self._broken(
                    "secret_files", "must be names of files; a secret itself belongs in secrets"
                )
                continue
            found += [
                self._secret("secret_files", line) for line in self._lines(self._path.parent / name)
            ]
        if not found and len(self.faults) == before:
            self._broken(
                "secrets",
                "there must be at least one, here or in secret_files; `relay secret` makes one",
            )
        return tuple(secret for secret in found if secret)

    def refuse_shown_secrets(self, found: Mapping[str, Any]) -> None:
        """A file that has secrets itself must be as hidden as one that has nothing else."""
        tables = found.get("endpoint")
        self._about = ""
        if isinstance(tables, list) and any(
            isinstance(table, dict) and table.get("secrets") for table in tables
        ):
            for fault in exposure(self._path, "the secrets"):
                self._broken("secrets", fault)

    def _lines(self, path: Path) -> list[str]:
        try:
            for fault in exposure(path, "the secrets"):
                self._broken("secret_files", fault)
            return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
        except OSError as error:
            self._broken("secret_files", f"{path} can't be read: {error.strerror}")
        except UnicodeDecodeError:
            self._broken("secret_files", f"{path} is not UTF-8")
        return []

    def _secret(self, name: str, text: str) -> bytes:
        try:
            secret = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
        except ValueError:  # not base64, or not even ASCII
            secret = b""
        if not text.startswith(_SECRET_PREFIX) or len(secret) not in _SECRET_BYTES:
            self._broken(name, f"each must be {_SECRET_PREFIX} and the base64 of 24 to 64 bytes")
            return b""
        return secret


def _rule_of_url(url: str, parts: SplitResult, host: str) -> str:
    """The rule that a URL breaks, or nothing."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be ASCII without white space; write a name that is not as punycode"
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
        httpx.URL(url)  # what will call it knows further rules: 0177.0.0.1 is no address
    except httpx.InvalidURL:
        return "must name a host"
    return ""
