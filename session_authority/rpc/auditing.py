"""Decides which calls the audit log records, and which fields of these calls.

Calls of the methods in the table `ACTS` are recorded. The table names the fields of the request and
of the response that the audit log gets. The methods `looked` and `watched` of `Auditor` record two
more kinds of calls. The audit log gets the names of claims, but not their values. The audit log
does not get the names that users gave their devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import grpc

from session_authority.rpc.request_ids import FIELD, request_id_of
from session_authority.runtime import logs
from session_authority.runtime.audit_log import AuditLog

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Act:
    """A method of the service whose calls the audit log records, with the fields that the audit log
    gets.
    """

    request: tuple[str, ...]
    """The fields of the request that the audit log gets."""
    response: tuple[str, ...] = ()
    """The fields of the response that the audit log gets."""
    is_look: bool = False
    """True if the method only reads data and changes nothing."""


ACTS: Mapping[str, Act] = MappingProxyType(
    {
        "UpdateSession": Act(("user_id", "device_id"), ("updated_sessions",)),
        "ListDevices": Act(("user_id",), is_look=True),
        "UpdateDevice": Act(("user_id", "device_id")),
        "RevokeDevice": Act(("user_id", "device_id", "reason", "forget"), ("revoked",)),
        "RevokeAll": Act(("user_id", "except_device_id", "reason", "forget"), ("revoked_devices",)),
    }
)


class Auditor:
    """Writes calls to the audit log: calls of the methods in ACTS, validations with `observe_only`,
    and watches of certain users. Writes nothing if there is no audit log.
    """

    def __init__(self, log: AuditLog | None = None) -> None:
        self._log = log

    def ended(
        self, method: str, context: Context, request: Any, response: Any, code: grpc.StatusCode
    ) -> None:
        """Writes a call that has ended to the audit log, if the method of the call is in ACTS.

        Args:
            method: The name of the method.
            context: gRPC's context of the call.
            request: The request, or None if the call was refused before the request was read.
            response: The response, or None if the call failed.
            code: The status code of the call.
        """
        act = ACTS.get(method)
        if self._log is None or act is None:
            return
        told: dict[str, Any] = {}
        if request is not None:
            told |= {name: getattr(request, name) for name in act.request}
            if method == "UpdateSession":
                told["claims"] = sorted(request.claims)
        if response is not None:
            told |= {name: getattr(response, name) for name in act.response}
        limited = act.is_look or code is not grpc.StatusCode.OK
        self._note(self._log, method, context, code, told, limited=limited)

    def looked(
        self, context: Context, user_id: str, code: grpc.StatusCode, status: str = ""
    ) -> None:
        """Writes a validation with `observe_only` to the audit log.

        Args:
            context: gRPC's context of the call.
            user_id: The user ID of the session, or an empty text if the user is not known.
            code: The status code of the call.
            status: The name of the token's status, or an empty text if there is no verdict.
        """
        if self._log is not None:
            told = {"observe_only": True, "user_id": user_id, "status": status}
            self._note(self._log, "ValidateSession", context, code, told, limited=True)

    def watched(self, context: Context, user_ids: Sequence[str]) -> None:
        """Writes to the audit log that a watch of certain users' events begins.

        The line is written when the watch begins, because a watch may last for days. A watch of all
        users gets no line.
        """
        if self._log is not None and user_ids:
            told = {"user_ids": list(user_ids)}
            self._note(self._log, "WatchEvents", context, grpc.StatusCode.OK, told, limited=True)

    def _note(
        self,
        log: AuditLog,
        method: str,
        context: Context,
        code: grpc.StatusCode,
        told: Mapping[str, Any],
        *,
        limited: bool,
    ) -> None:
        known = {
            "caller": logs.caller_name.get(),
            "peer": unquote(context.peer()),
            FIELD: request_id_of(context),
        }
        known |= logs.call_fields.get() or {}
        log.note(method, code.name, {**known, **told}, limited=limited)
