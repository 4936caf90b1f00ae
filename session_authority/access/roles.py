"""Holds `ROWS`, the table of RPCs and the roles that may call each of them. A call of an RPC
without a row is denied.

The policy file decides which callers have which roles. It may also allow a caller single RPCs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

_SERVICE = "session_authority.v1.SessionAuthorityService"


class Role(Enum):
    """The role of a caller."""

    ISSUER = "issuer"
    VALIDATOR = "validator"
    MANAGER = "manager"
    WATCHER = "watcher"
    GATEWAY = "gateway"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Row:
    """The permission for one RPC: callers with one of these roles may call it. If the RPC is
    `public`, every client that can connect may call it.
    """

    roles: frozenset[Role] = frozenset()
    public: bool = False


def _row(*roles: Role) -> Row:
    return Row(frozenset((*roles, Role.OPERATOR)))


# The rows by the full path of the RPC in gRPC. An operator may call everything.
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        f"/{_SERVICE}/IssueDevice": _row(Role.ISSUER),
        f"/{_SERVICE}/RenewSession": _row(Role.ISSUER, Role.GATEWAY),
        f"/{_SERVICE}/UpdateSession": _row(Role.ISSUER),
        f"/{_SERVICE}/ValidateSession": _row(Role.VALIDATOR, Role.GATEWAY),
        f"/{_SERVICE}/BatchValidateSessions": _row(Role.VALIDATOR, Role.GATEWAY),
        f"/{_SERVICE}/CheckSessions": _row(Role.VALIDATOR),
        f"/{_SERVICE}/GetSigningKeys": _row(Role.ISSUER, Role.VALIDATOR),
        f"/{_SERVICE}/ListDevices": _row(Role.MANAGER),
        f"/{_SERVICE}/UpdateDevice": _row(Role.MANAGER),
        f"/{_SERVICE}/RevokeDevice": _row(Role.MANAGER),
        f"/{_SERVICE}/RevokeAll": _row(Role.MANAGER),
        f"/{_SERVICE}/WatchEvents": _row(Role.WATCHER, Role.GATEWAY),
        "/grpc.health.v1.Health/Check": Row(public=True),
        "/grpc.health.v1.Health/List": Row(public=True),
        "/grpc.health.v1.Health/Watch": Row(public=True),
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _row(),
    }
)
# The paths of RPCs by their names in the policy file. The name of an RPC of another service has its
# service in front.
RPC_PATHS = {
    path.removeprefix(f"/{_SERVICE}/").removeprefix("/"): path
    for path, row in ROWS.items()
    if not row.public
}


def rows_missing(paths: Iterable[str]) -> list[str]:
    """The RPCs among these paths that have no row in the table."""
    return sorted(set(paths) - ROWS.keys())


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller and its permissions. `paths` are the RPCs that the caller may call. `may_observe` is
    True if the caller may validate with `observe_only`.
    """

    name: str
    paths: frozenset[str]
    may_observe: bool = False

    def rpcs(self) -> list[str]:
        """The names of the RPCs that the caller may call, spelled as in the policy file."""
        return [name for name, path in RPC_PATHS.items() if path in self.paths]

    @classmethod
    def of(cls, name: str, roles: Iterable[Role], rpcs: Iterable[str] = ()) -> Caller:
        """Makes a caller from its roles, and from the paths of single RPCs that it may also
        call.
        """
        held = frozenset(roles)
        by_role = {path for path, row in ROWS.items() if row.roles & held}
        return cls(name, frozenset(by_role.union(rpcs)), Role.OPERATOR in held)
