"""Decides which calls the audit log records, and which of their fields.

The calls in the table `ACTS` are acts. The table names the fields of their requests and responses
that the log gets. Of claims, the log gets only the names. The methods `looked` and `watched` write
two more kinds of calls. The log never gets the value of a claim, or the name that a user gave a
device.
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
    """An RPC that the audit log records, with the fields that the log gets."""

    request: tuple[str, ...]
    """The fields of the request that the log gets."""
    response: tuple[str, ...] = ()
    """The fields of the response that the log gets."""
    is_look: bool = False
    """True if the RPC only reads and changes nothing."""


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
    """Writes acts, look-ups and watches of certain users to the audit log."""

    def __init__(self, log: AuditLog | None = None) -> None:
        self._log = log

    def ended(
        self, method: str, context: Context, request: Any, response: Any, code: grpc.StatusCode
    ) -> None:
        """Writes a finished call to the audit log if the call was an act.

        Args:
            method: The name of the method.
            context: gRPC's context of the call.
            request: The request, or None if the call was refused before the request was read.
            response: The response, or None if the call failed.
            code: The outcome of the call.
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
            user_id: The user of the session. It is empty if the user is not known.
            code: The outcome of the call.
            status: The name of the verdict. It is empty if there is none.
        """
        if self._log is not None:
            told = {"observe_only": True, "user_id": user_id, "status": status}
            self._note(self._log, "ValidateSession", context, code, told, limited=True)

    def watched(self, context: Context, user_ids: Sequence[str]) -> None:
        """Writes to the audit log that a watch of certain users' events begins.

        The line is written at the start, as a watch may last for days.
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
