"""The access policy: which roles may call each RPC, and which callers have which roles. Default
deny.

`ROWS` is the one table of RPCs; the TOML file names callers, their roles and what proves who they
are. What a file gets wrong is named all at once, and a file that turns wrong later changes nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from session_authority.access.callers import NAME_RULE, CallerToken, digest_of, is_name, read_tokens
from session_authority.access.errors import AccessError
from session_authority.runtime.files import Reread

_SERVICE = "session_authority.v1.SessionAuthorityService"
_FIELDS = ("roles", "rpcs", "certificates")
# A URI SAN (RFC 5280 §4.2.1.6; a SPIFFE ID is one) has a scheme and an authority; a DNS SAN is a
# host name.
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]{1,2000}", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*", re.ASCII)


class Role(Enum):
    """What a caller is there for."""

    ISSUER = "issuer"
    VALIDATOR = "validator"
    MANAGER = "manager"
    WATCHER = "watcher"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Row:
    """Who may call one RPC: callers of these roles, or, if it is `public`, anyone who can
    connect.
    """

    roles: frozenset[Role] = frozenset()
    public: bool = False


def _row(*roles: Role) -> Row:
    return Row(frozenset((*roles, Role.OPERATOR)))


# By the path on the wire. An operator may call everything.
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        f"/{_SERVICE}/IssueDevice": _row(Role.ISSUER),
        f"/{_SERVICE}/RenewSession": _row(Role.ISSUER),
        f"/{_SERVICE}/ValidateSession": _row(Role.VALIDATOR),
        f"/{_SERVICE}/BatchValidateSessions": _row(Role.VALIDATOR),
        f"/{_SERVICE}/GetSigningKeys": _row(Role.ISSUER, Role.VALIDATOR),
        f"/{_SERVICE}/ListDevices": _row(Role.MANAGER),
        f"/{_SERVICE}/UpdateDevice": _row(Role.MANAGER),
        f"/{_SERVICE}/RevokeDevice": _row(Role.MANAGER),
        f"/{_SERVICE}/RevokeAll": _row(Role.MANAGER),
        f"/{_SERVICE}/WatchEvents": _row(Role.WATCHER),
        "/grpc.health.v1.Health/Check": Row(public=True),
        "/grpc.health.v1.Health/List": Row(public=True),
        "/grpc.health.v1.Health/Watch": Row(public=True),
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _row(),
    }
)
# How the file names them: those of the service by name, others by service and name.
_RPCS = {
    path.removeprefix(f"/{_SERVICE}/").removeprefix("/"): path
    for path, row in ROWS.items()
    if not row.public
}


def rows_missing(paths: Iterable[str]) -> list[str]:
    """The RPCs among these that have no row."""
    return sorted(set(paths) - ROWS.keys())


@dataclass(frozen=True, slots=True)
class Caller:
    """A service that calls. `paths` are the RPCs that it may call; `may_observe`: it may ask and
    leave no trace.
    """

    name: str
    paths: frozenset[str]
    may_observe: bool = False

    def rpcs(self) -> list[str]:
        """The names of what it may call, as the policy file has them."""
        return [name for name, path in _RPCS.items() if path in self.paths]

    @classmethod
    def of(cls, name: str, roles: Iterable[Role], rpcs: Iterable[str] = ()) -> Caller:
        """A caller with roles, and with single RPCs by their paths."""
        held = frozenset(roles)
        by_role = {path for path, row in ROWS.items() if row.roles & held}
        return cls(name, frozenset(by_role.union(rpcs)), Role.OPERATOR in held)


class Access:
    """Who may call, and what. With `anyone` set, whoever calls is that caller. `unknown` are names
    that only tokens have.
    """

    def __init__(
        self,
        certificates: Mapping[str, Caller] = MappingProxyType({}),
        tokens: Iterable[tuple[CallerToken, Caller]] = (),
        anyone: Caller | None = None,
        unknown: Iterable[str] = (),
    ) -> None:
        self.anyone = anyone
        self.unknown = frozenset(unknown)
        self._certificates = dict(certificates)
        self._tokens = tuple(tokens)

    def by_certificate(self, names: Iterable[str]) -> set[Caller]:
        """Whom a certificate's names stand for. One that stands for several callers is nobody's."""
        return {self._certificates[name] for name in names if name in self._certificates}

    def by_token(self, token: str) -> Caller | None:
        """Whose bearer token this is. Every token is compared, whichever it is, each in constant
        time.
        """
        digest, found = digest_of(token), None
        for kept, caller in self._tokens:
            if kept.matches(digest):
                found = caller
        return found


def everybody() -> Access:
    """Whoever can connect may do everything: for development."""
    return Access(anyone=Caller.of("anonymous", Role))


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy file says: all callers by their names, and those that a certificate's names
    stand for.
    """

    callers: Mapping[str, Caller]
    certificates: Mapping[str, Caller]


def read_policy(path: Path) -> Policy:
    """The policy of a file. Raises AccessError with every fault."""
    reading = _Reading(path)
    if reading.faults:
        raise AccessError(*reading.faults)
    return Policy(reading.callers, reading.certificates)


def load_access(policy: Path, tokens: Path | None, *, nobodys_tokens: bool = False) -> Access:
    """The access that a policy file and, if there is one, a file of caller tokens give. Raises
    AccessError with every fault.

    A token of a caller that the policy does not name is a fault, unless `nobodys_tokens` are
    allowed: they open nothing.
    """
    faults: list[str] = []
    found: Policy | None = None
    kept: tuple[CallerToken, ...] = ()
    try:
        found = read_policy(policy)
    except AccessError as error:
        faults += error.faults
    if tokens is not None:
        try:
            kept = read_tokens(tokens)
        except AccessError as error:
            faults += error.faults
    unknown = (
        {token.caller for token in kept} - found.callers.keys() if found is not None else set()
    )
    if not nobodys_tokens:
        faults += [f"{tokens}: {name}: is no caller of {policy}" for name in sorted(unknown)]
    if faults or found is None:
        raise AccessError(*faults)
    owned = [
        (token, found.callers[token.caller]) for token in kept if token.caller in found.callers
    ]
    return Access(found.certificates, owned, unknown=unknown)


class AccessSource(Reread[Access]):
    """The access of files, as they change: until broken ones are mended, who may call what stays as
    it was. Raises AccessError.

    Tokens of callers that the policy does not name open nothing.
    """

    def __init__(self, policy: Path, tokens: Path | None) -> None:
        super().__init__(
            [policy, tokens], lambda: load_access(policy, tokens, nobodys_tokens=True), AccessError
        )


class _Reading:
    """The callers of a policy file. Collects faults while it reads; raises AccessError if there is
    nothing to read.
    """

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []
        self.callers: dict[str, Caller] = {}
        self.certificates: dict[str, Caller] = {}
        self._path = path
        tables = self._tables()
        for name, table in tables.items():
            if not is_name(name):
                self._broken(f"callers.{name}", NAME_RULE)
            elif not isinstance(table, dict):
                self._broken(f"callers.{name}", "must be a table")
            else:
                self._read(name, table)

    def _tables(self) -> Mapping[str, Any]:
        try:
            found = tomllib.loads(self._path.read_text("utf-8"))
        except OSError as error:
            raise AccessError(f"{self._path}: can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise AccessError(f"{self._path}: is not UTF-8") from None
        except (
            ValueError,
            RecursionError,
        ) as error:  # TOMLDecodeError is one; a number of 5,000 digits is another
            raise AccessError(f"{self._path}: is not TOML: {error}") from None
        for name in sorted(found.keys() - {"callers"}):
            self._broken(name, "is not known; there is [callers.NAME] only")
        tables = found.get("callers", {})
        if not isinstance(tables, dict):
            self._broken("callers", "must be tables, each under [callers.NAME]")
            return {}
        if not tables:
            self._broken(
                "callers", "is empty: nobody could call; name each caller under [callers.NAME]"
            )
        return tables

    def _broken(self, where: str, rule: str) -> None:
        self.faults.append(f"{self._path}: {where}: {rule}")

    def _read(self, name: str, table: Mapping[str, Any]) -> None:
        where = f"callers.{name}"
        for field in sorted(table.keys() - set(_FIELDS)):
            self._broken(f"{where}.{field}", f"is not known; there are {', '.join(_FIELDS)}")
        roles = self._known(
            f"{where}.roles", table.get("roles", []), {role.value: role for role in Role}, "role"
        )
        rpcs = self._known(f"{where}.rpcs", table.get("rpcs", []), _RPCS, "RPC")
        if not table.get("roles") and not table.get("rpcs"):
            self._broken(where, "may call nothing: give it roles or rpcs")
        caller = self.callers[name] = Caller.of(name, roles, rpcs)
        for text in self._texts(f"{where}.certificates", table.get("certificates", [])):
            if _URI.fullmatch(text) is None and _DNS.fullmatch(text) is None:
                self._broken(
                    f"{where}.certificates",
                    f"{text!r} is neither a URI like spiffe://example.org/login nor a lower-case"
                    " host name; no wildcards",
                )
            elif text in self.certificates:
                self._broken(
                    f"{where}.certificates",
                    f"{text!r} is named twice: it must stand for one caller",
                )
            else:
                self.certificates[text] = caller

    def _known(self, where: str, value: object, known: Mapping[str, Any], what: str) -> list[Any]:
        texts = self._texts(where, value)
        for text in texts:
            if text not in known:
                self._broken(where, f"{text!r} is no {what}; there are {', '.join(known)}")
        return [known[text] for text in texts if text in known]

    def _texts(self, where: str, value: object) -> list[str]:
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return value
        self._broken(where, "must be a list of texts")
        return []
