"""Reports calls to operators: as spans, as lines of an access log, and as acts in the audit log.

A method whose calls are observed is wrapped in ObservedUnary or ObservedStream, which report each
call to the `Observer`. The methods in BUSY_METHODS must be fast, because end users wait for their
answers. So the methods in BUSY_METHODS are observed only if the access log or tracing is on. If the
access log and tracing are off, observing adds no cost to the methods in BUSY_METHODS.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from session_authority.rpc.auditing import Auditor
from session_authority.rpc.replies import Reply
from session_authority.rpc.request_ids import FIELD, reply, request_id_of
from session_authority.rpc.streams import Stream, StreamMethod
from session_authority.rpc.unary import UnaryMethod
from session_authority.runtime import logs
from session_authority.runtime.audit_log import AuditLog
from session_authority.runtime.logs import LineBudget
from session_authority.runtime.tracing import active

if TYPE_CHECKING:
    from session_authority.runtime.otel import CallTrace

# The limit of lines that one process writes to the access log in a second. In each second, only the
# calls that end first get a line.
MAX_ACCESS_LINES_PER_SECOND = 500
# The methods that are observed only if the access log or tracing is on.
BUSY_METHODS = frozenset(
    {"ValidateSession", "BatchValidateSessions", "CheckSessions", "RenewSession"}
)

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger(__name__)


class ObservedCall:
    """A call that is observed: its method, its request ID, and its request and response, if these
    are known.
    """

    __slots__ = ("context", "fields", "method", "request", "response", "started_seconds", "trace")

    def __init__(self, method: str, context: Context, trace: CallTrace | None) -> None:
        self.method = method
        self.trace = trace
        self.context = context
        self.started_seconds = time.perf_counter()
        self.fields = {FIELD: request_id_of(context)}
        self.request: Any = None
        self.response: Any = None

    @property
    def seconds(self) -> float:
        """The time since the call began, in seconds."""
        return time.perf_counter() - self.started_seconds

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Makes the work inside the `with` block a part of the call's span. Does nothing if tracing
        is off.
        """
        if self.trace is None:
            yield
            return
        self.fields.update(self.trace.enter())
        try:
            yield
        finally:
            self.trace.leave()


_observed: ContextVar[ObservedCall | None] = ContextVar("observed", default=None)


class Observer:
    """Reports calls to operators. With `access_log`, calls get lines in the access log, at most 500
    a second. Administrative acts are written to `audit_log`, unless `audit_log` is None. If tracing
    is on, each observed call of a known caller gets a span.
    """

    def __init__(self, *, access_log: bool = False, audit_log: AuditLog | None = None) -> None:
        self._access_log = access_log
        self.auditor = Auditor(audit_log)
        self._budget = LineBudget(MAX_ACCESS_LINES_PER_SECOND)
        self._tracer = active()

    def observes(self, method: str) -> bool:
        """Returns True if the calls of this method are observed. `method` must not be a method that
        anyone may call, such as a health check.
        """
        return self._access_log or self._tracer is not None or method not in BUSY_METHODS

    def begun(self, path: str, context: Context) -> ObservedCall:
        """Begins to observe a call that has just arrived."""
        trace = None
        if self._tracer is not None:
            trace = self._tracer.call(path, context.invocation_metadata() or ())
        return ObservedCall(path.rpartition("/")[2], context, trace)

    def ended(self, call: ObservedCall, code: grpc.StatusCode) -> None:
        """Reports a call that has ended. If writing to the access log fails, the answer is still
        sent.
        """
        if call.trace is not None:
            # A refused call also has a `caller_name` if the service knows the caller.
            call.trace.end(code.name, known=logs.caller_name.get() is not None)
        self.auditor.ended(call.method, call.context, call.request, call.response, code)
        if self._access_log:
            with suppress(OSError, ValueError):  # Writing to a closed stream raises ValueError.
                self._log_call(call, code)

    def _log_call(self, call: ObservedCall, code: grpc.StatusCode) -> None:
        left_out = self._budget.count(time.monotonic())
        if left_out is not None:
            _log.info(
                "call",
                method=call.method,
                code=code.name,
                seconds=round(call.seconds, 6),
                left_out=left_out,
            )


class ObservedUnary(UnaryMethod):
    """A unary method whose calls are reported to an observer."""

    def __init__(self, path: str, handler: Any, observer: Observer, *parts: Any) -> None:
        super().__init__(path, handler, *parts)
        self._observer = observer
        self._behavior = _noting(self._behavior)

    async def answer(self, context: Context) -> bytes | Reply | grpc.Status:
        """Returns the answer of a call, together with the request ID of the call. If the call
        fails, returns the status of the call instead.
        """
        call = self._observer.begun(self._path, context)
        observed, fields = _observed.set(call), logs.call_fields.set(call.fields)
        code = grpc.StatusCode.CANCELLED
        try:
            answer = await super().answer(context)
            code = answer.code if isinstance(answer, grpc.Status) else grpc.StatusCode.OK
        except grpc.aio.AbortError:
            code = _code_of(context)
            raise
        finally:
            self._observer.ended(call, code)
            logs.call_fields.reset(fields)
            _observed.reset(observed)
        return reply(answer, context) if isinstance(answer, bytes) else answer


class ObservedStream(StreamMethod):
    """A method that answers with a stream. Each stream is reported to an observer when it ends."""

    def __init__(self, path: str, behavior: Any, observer: Observer, *parts: Any) -> None:
        super().__init__(path, behavior, *parts)
        self._observer = observer

    async def run(self, request: Any, context: Context) -> None:
        """Answers one call of the method, and reports the call to the observer."""
        call = self._observer.begun(self._path, context)
        observed, fields = _observed.set(call), logs.call_fields.set(call.fields)
        code = grpc.StatusCode.CANCELLED
        try:
            await super().run(request, context)
            code = grpc.StatusCode.OK
        except grpc.aio.AbortError:
            code = _code_of(context)
            raise
        finally:
            self._observer.ended(call, code)
            logs.call_fields.reset(fields)
            _observed.reset(observed)

    async def _answer(self, request: Any, stream: Stream) -> None:
        call = _observed.get()
        assert call is not None
        with call.traced():
            await super()._answer(request, stream)


def _noting(behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wraps a handler so that the wrapper stores the request and the response in the observed
    call.
    """

    async def noted(request: Any, context: Context) -> Any:
        call = _observed.get()
        assert call is not None
        call.request = request
        with call.traced():
            call.response = await behavior(request, context)
        return call.response

    return noted


def _code_of(context: Context) -> grpc.StatusCode:
    """Returns the status code with which a call was aborted."""
    given: Any = context.code()
    number = given.value[0] if isinstance(given, grpc.StatusCode) else given
    codes = (code for code in grpc.StatusCode if code.value[0] == number)
    return next(codes, grpc.StatusCode.UNKNOWN)
