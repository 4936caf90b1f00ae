"""The table of RPCs has a row for each RPC. A role may call the RPCs that the table gives to the
role, and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from session_authority.access import (
    ROWS,
    Caller,
    Role,
    everybody,
    read_policy,
    rows_missing,
)
from session_authority.v1 import session_authority_pb2 as pb

WritePolicy = Callable[..., Path]
SERVICES: list[Any] = [
    pb.DESCRIPTOR.services_by_name["SessionAuthorityService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
ALL_PATHS = {
    f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods
}
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
# The table, written once more by hand: the RPCs that each role may call, as a policy file names
# them.
MAY_CALL = {
    "issuer": {"IssueDevice", "RenewSession", "UpdateSession", "GetSigningKeys"},
    "validator": {"ValidateSession", "BatchValidateSessions", "CheckSessions", "GetSigningKeys"},
    "manager": {"ListDevices", "UpdateDevice", "RevokeDevice", "RevokeAll"},
    "watcher": {"WatchEvents"},
    "gateway": {"RenewSession", "ValidateSession", "BatchValidateSessions", "WatchEvents"},
    "operator": {
        "IssueDevice",
        "RenewSession",
        "UpdateSession",
        "ValidateSession",
        "BatchValidateSessions",
        "CheckSessions",
        "GetSigningKeys",
        "ListDevices",
        "UpdateDevice",
        "RevokeDevice",
        "RevokeAll",
        "WatchEvents",
        REFLECTION,
    },
}
PUBLIC = {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}


def path_of(name: str) -> str:
    return f"/{name}" if "/" in name else f"/session_authority.v1.SessionAuthorityService/{name}"


def test_the_table_has_a_row_for_each_rpc_and_no_other_row():
    assert set(ROWS) == ALL_PATHS
    assert rows_missing(ALL_PATHS) == []


def test_rpcs_without_a_row_are_listed_in_order():
    assert rows_missing(["/b/New", *ALL_PATHS, "/a/New"]) == ["/a/New", "/b/New"]


@pytest.mark.parametrize("path", sorted(ALL_PATHS))
@pytest.mark.parametrize("role", sorted(MAY_CALL))
def test_a_role_may_call_the_rpcs_in_the_table_and_no_others(
    policy: WritePolicy, role: str, path: str
):
    caller = read_policy(policy(f'[callers.ada]\nroles = ["{role}"]')).callers["ada"]
    assert (path in caller.paths) is (path in {path_of(name) for name in MAY_CALL[role]})


def test_only_the_rpcs_of_health_are_public():
    assert {path for path, row in ROWS.items() if row.public} == PUBLIC
    assert not [path for path, row in ROWS.items() if row.public and row.roles]


def test_this_file_lists_every_role():
    assert {role.value for role in Role} == set(MAY_CALL)


@pytest.mark.parametrize("role", sorted(MAY_CALL))
def test_only_an_operator_may_use_observe_only(policy: WritePolicy, role: str):
    caller = read_policy(policy(f'[callers.ada]\nroles = ["{role}"]')).callers["ada"]
    assert caller.may_observe is (role == "operator")


@pytest.mark.parametrize("name", sorted(MAY_CALL["operator"]))
def test_a_caller_with_a_single_rpc_may_call_nothing_else(policy: WritePolicy, name: str):
    caller = read_policy(policy(f'[callers.ada]\nrpcs = ["{name}"]')).callers["ada"]
    assert caller == Caller("ada", frozenset({path_of(name)}), may_observe=False)
    assert caller.rpcs() == [name]


def test_a_caller_may_call_the_rpcs_of_all_its_roles_and_its_own_rpcs(policy: WritePolicy):
    caller = read_policy(
        policy('[callers.ada]\nroles = ["watcher", "issuer"]\nrpcs = ["RevokeAll"]')
    ).callers["ada"]
    assert set(caller.rpcs()) == MAY_CALL["watcher"] | MAY_CALL["issuer"] | {"RevokeAll"}


def test_in_development_every_caller_may_call_everything():
    anyone = everybody().anyone
    assert anyone is not None
    assert anyone == Caller("anonymous", frozenset(ALL_PATHS - PUBLIC), may_observe=True)
