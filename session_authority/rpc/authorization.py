"""Identifies the caller of each call, and checks the caller's permission before the request is
read.

The names in the client's certificate identify the caller. If the names in the certificate match no
caller, or several callers, the bearer token of the call identifies the caller. Without an access
policy, all calls come from one caller, `anonymous`. While a call runs, the function `caller`
returns the caller of this call, for the handler and for tasks that the handler starts. The log
lines of the call contain the caller's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from time import monotonic
from typing import Any
from urllib.parse import unquote

import grpc
import structlog

from session_authority.access import ROWS, Access, Caller, names_in
from session_authority.domain.errors import CallerNotAllowed, CallerUnknown
from session_authority.rpc.request_ids import on_lines
from session_authority.runtime import logs
from session_authority.runtime.addresses import is_loopback
from session_authority.runtime.logs import LogThrottle

Context = grpc.aio.ServicerContext[Any, Any]

_calling: ContextVar[Caller | None] = ContextVar("caller", default=None)
_log = structlog.get_logger(__name__)


def caller() -> Caller:
    """Returns the caller of the present call. Raises LookupError if the call was refused, or if
    anyone may call the method of the call.
    """
    calling = _calling.get()
    if calling is None:
        raise LookupError("nobody was admitted")
    return calling


def caller_name() -> str | None:
    """Returns the name of the present call's caller, even if the caller has no permission for the
    call. Returns None if the caller is not known.
    """
    return logs.caller_name.get()


def is_calling(caller: Caller) -> None:
    """Sets the caller of the present call, for the running task and for the tasks that the running
    task starts.
    """
    if _calling.get() is not caller:  # a read takes a third of the time of a write
        _calling.set(caller)
    if logs.caller_name.get() is not caller.name:
        logs.caller_name.set(caller.name)


def no_one_is_calling() -> None:
    """Removes the caller that an earlier call has set in the running task.

    A standing task answers one call after another, and must not attribute a call to the caller of
    an earlier call. Most calls of a task come from the same caller, so removing the caller after
    each call would be wasted work. The caller is removed only when the next call has no caller or
    is refused.
    """
    _calling.set(None)
    logs.caller_name.set(None)


class Authorizer:
    """Identifies callers, and checks their permissions by the access rules at the time of the call.

    With `plaintext_tokens`, bearer tokens are also accepted over unencrypted connections from other
    machines. `refuse_if_unfit` raises NotReady while the process must not answer any caller.
    """

    def __init__(
        self,
        access: Callable[[], Access],
        *,
        plaintext_tokens: bool = False,
        refuse_if_unfit: Callable[[], None] = lambda: None,
    ) -> None:
        self._access = access
        self._refuse_if_unfit = refuse_if_unfit
        self._plaintext_tokens = plaintext_tokens
        self._throttle = LogThrottle()

    @property
    def has_one_caller(self) -> bool:
        """True if all calls that can be admitted come from one caller."""
        return self._access().has_one_caller

    def admit(self, path: str, context: Context) -> Caller | None:
        """Identifies the caller of a call, and checks the caller's permission for the method with
        this path. Sets the caller of the present call, and returns the caller. Returns None for a
        method that anyone may call.

        Raises NotReady if the process must not answer any caller, CallerUnknown if the caller can't
        be identified, and CallerNotAllowed if the caller has no permission. After each of the three
        errors, the function `caller` raises LookupError. After CallerNotAllowed, the function
        `caller_name` still returns the name of the caller, for the log.
        """
        row = ROWS.get(path)
        if row is not None and row.public:
            no_one_is_calling()
            return None
        try:
            self._refuse_if_unfit()
            calling = self._who(context)
        except Exception as error:
            no_one_is_calling()
            if isinstance(error, CallerUnknown):
                self._log_refusal(
                    "caller_unknown", path, context, why=str(error), **_for_the_log(error)
                )
            raise
        if path not in calling.paths:
            no_one_is_calling()
            logs.caller_name.set(calling.name)
            self._log_refusal("caller_not_allowed", path, context, caller=calling.name)
            raise CallerNotAllowed(f"call {path.rpartition('/')[2]}")
        is_calling(calling)
        return calling

    def _who(self, context: Context) -> Caller:
        access = self._access()
        if access.anyone is not None:
            return access.anyone
        connection: Mapping[str, Iterable[bytes]] = context.auth_context()
        shown = [name for pem in connection.get("x509_pem_cert", ()) for name in names_in(pem)]
        by_certificate = access.by_certificate(shown) if shown else set()
        if len(by_certificate) == 1:
            return by_certificate.pop()
        token = _bearer_token(context)
        if token is None:
            raise CallerUnknown(shown=shown)
        is_encrypted = b"ssl" in connection.get("transport_security_type", ())
        if (
            not is_encrypted
            and not self._plaintext_tokens
            and not _is_loopback_peer(context.peer())
        ):
            raise CallerUnknown(
                "a bearer token is taken over TLS only; this one can be read on its way: replace it"
            )
        by_token = access.by_token(token)
        if by_token is None:
            raise CallerUnknown(shown=shown)
        return by_token

    def _log_refusal(self, event: str, path: str, context: Context, **details: str) -> None:
        left_out = self._throttle.count(f"{event} {path} {details}", monotonic())
        if left_out is not None:
            with on_lines(context):
                _log.warning(
                    event, method=path, peer=unquote(context.peer()), left_out=left_out, **details
                )


def _for_the_log(error: CallerUnknown) -> dict[str, str]:
    """Returns the names in the client's certificate as a field for the log: at most five names,
    each cut to 80 characters. Returns no field if the error has no names.
    """
    return {"certificate": ", ".join(name[:80] for name in error.shown[:5])} if error.shown else {}


def _bearer_token(context: Context) -> str | None:
    """Returns the bearer token of a call, or None if the call has no bearer token.

    Also returns None if the call has several `authorization` headers. A proxy in front of this
    service may have checked only one of the headers, and this function might return the token in
    another header.
    """
    found = [
        value for name, value in context.invocation_metadata() or () if name == "authorization"
    ]
    if len(found) != 1:
        return None
    value = found[0].decode("utf-8", "replace") if isinstance(found[0], bytes) else found[0]
    scheme, _, token = value.partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def _is_loopback_peer(peer: str) -> bool:
    """Returns True if a peer is on this machine. `peer` is the name of the peer in gRPC, such as
    `ipv4:127.0.0.1:50000`.
    """
    family, _, rest = unquote(peer).partition(":")
    if family in ("ipv4", "ipv6"):
        return is_loopback(rest.rpartition(":")[0].strip("[]").partition("%")[0])
    return family == "unix"
