"""Defines `ROWS`, the table of the roles that may call each RPC. A call of an RPC without a row in
this table is denied.

The policy file gives each caller its roles. The policy file may also allow a caller single RPCs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

_SERVICE = "session_authority.v1.SessionAuthorityService"


class Role(Enum):
    """The role of a caller. A role permits some RPCs: see `ROWS`."""

    ISSUER = "issuer"
    VALIDATOR = "validator"
    MANAGER = "manager"
    WATCHER = "watcher"
    GATEWAY = "gateway"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Row:
    """The permission for one RPC: callers with one of the `roles` may call the RPC. If `public` is
    True, every client that can connect may call the RPC.
    """

    roles: frozenset[Role] = frozenset()
    public: bool = False


def _row(*roles: Role) -> Row:
    return Row(frozenset((*roles, Role.OPERATOR)))


# The row of each RPC, by the RPC's full path in gRPC. An operator may call every RPC in this table.
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
# The path of each RPC that is not public, by the RPC's name in the policy file. An RPC of
# SessionAuthorityService is named without the service. The name of an RPC of another gRPC service
# begins with the name of that service.
RPC_PATHS = {
    path.removeprefix(f"/{_SERVICE}/").removeprefix("/"): path
    for path, row in ROWS.items()
    if not row.public
}


def rows_missing(paths: Iterable[str]) -> list[str]:
    """Returns those of the paths that have no row in `ROWS`."""
    return sorted(set(paths) - ROWS.keys())


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller and its permissions. `paths` has the paths of the RPCs that the caller may call.
    `may_observe` is True if the caller may validate with `observe_only`.
    """

    name: str
    paths: frozenset[str]
    may_observe: bool = False

    def rpcs(self) -> list[str]:
        """Returns the names of the RPCs that the caller may call, as they are spelled in the policy
        file.
        """
        return [name for name, path in RPC_PATHS.items() if path in self.paths]

    @classmethod
    def of(cls, name: str, roles: Iterable[Role], rpcs: Iterable[str] = ()) -> Caller:
        """Makes a caller from its roles. `rpcs` are the paths of single RPCs that the caller may
        also call.
        """
        held = frozenset(roles)
        by_role = {path for path, row in ROWS.items() if row.roles & held}
        return cls(name, frozenset(by_role.union(rpcs)), Role.OPERATOR in held)
