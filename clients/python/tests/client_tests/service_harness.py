"""A stand-in for the service on a real connection. It does what a test wants: delays answers,
fails, or stalls its watches.

It keeps the parts of the contract that matter to a cache. A revocation and its event are one step.
A validation reads the state when it is called. A proof that a watch is live is as old as the
reading behind it.

It sends a proof every 0.05 s, unlike the service. A cache may therefore be set to trust a proof for
only half a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from session_authority.rpc.status import Failure
from session_authority_client._shared.transport import SERVICE
from session_authority_client.wire import session_authority_pb2 as pb

PROOF_SECONDS = 0.05
DEVICE = "6f1c2f0e-5d53-4c0b-8f43-0c1d2e3f4a5b"

Outcome = pb.ValidateSessionResponse | pb.RequestError


class Service:
    """The stand-in for the service: it records the calls, and a test sets how it behaves."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._revoked: set[str] = set()
        self._events: list[pb.Event] = []
        self._epoch = 0
        self._over = False
        self.address = ""
        # The method, how many requests the call had, and the seconds until its deadline.
        self.calls: list[tuple[str, int, float]] = []
        self.metadata: list[dict[str, Any]] = []
        self.requests: list[pb.ValidateSessionRequest] = []
        self.at_once = self.most_at_once = 0  # calls that are being handled
        self.watches = 0
        self.watching = 0  # watches that are open
        # The tokens of answers that are decided but not sent yet.
        self.on_their_way: list[str] = []
        self.open = threading.Event()  # answers are delayed while it is not set
        self.open.set()
        self.flowing = threading.Event()  # watches stall while it is not set
        self.flowing.set()
        self.code: grpc.StatusCode | None = None  # the status with which validations fail
        self.refusals: list[Failure] = []  # refusals with a reason, for the next validations
        self.watch_code: grpc.StatusCode | None = None  # the status with which watches fail
        self.renew = False
        self.life_seconds = 3600.0
        self.answer_delay: Callable[[], float] = lambda: 0.0
        self.message_delay: Callable[[], float] = lambda: 0.0

    # --- what a test controls ---------------------------------------------------------------------

    def revoke(self, user_id: str) -> None:
        """Ends a user's session and writes the event, in one step."""
        with self._lock:
            self._revoked.add(user_id)
            self._write(pb.EVENT_TYPE_ALL_REVOKED, user_id)

    def happen(self, kind: int, user_id: str = "") -> None:
        """Writes an event that ends no session."""
        with self._lock:
            self._write(kind, user_id)

    def cut(self) -> None:
        """Breaks all watches."""
        with self._lock:
            self._epoch += 1
            self._lock.notify_all()

    def methods(self) -> list[tuple[str, int]]:
        """Returns the called methods, each with its number of requests."""
        return [(method, count) for method, count, _ in self.calls]

    def end(self) -> None:
        """Lets all answers and watches run to their end."""
        self._over = True
        self.open.set()
        self.flowing.set()
        self.cut()

    # --- what the service does --------------------------------------------------------------------

    def _write(self, kind: int, user_id: str) -> None:
        event = pb.Event(event_id=str(len(self._events)), user_id=user_id)
        event.type = kind  # type: ignore[assignment]
        self._events.append(event)
        self._lock.notify_all()

    def _validate(self, request: pb.ValidateSessionRequest) -> Outcome:
        """Judges one request. A token is `token of <user>`, or `broken`."""
        if request.access_token == "broken":
            return pb.RequestError(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="broken")
        user = request.access_token.removeprefix("token of ")
        with self._lock:
            revoked = user in self._revoked
        if revoked:
            return pb.ValidateSessionResponse(
                status=pb.SESSION_STATUS_NO_SESSION, device_id=request.device_id
            )
        answer = pb.ValidateSessionResponse(
            active=True,
            status=pb.SESSION_STATUS_ACTIVE,
            device_id=request.device_id,
            session=pb.Session(
                user_id=user, device_id=request.device_id, session_id="0" * 32, generation=1
            ),
            renew_recommended=self.renew,
        )
        now = time.time()
        answer.session.sign_in_time.FromSeconds(int(now))
        answer.session.token_expire_time.FromNanoseconds(int((now + self.life_seconds) * 1e9))
        answer.session.expire_time.FromNanoseconds(int((now + 86400) * 1e9))
        return answer

    def _asked(
        self, method: str, requests: list[pb.ValidateSessionRequest], context: grpc.ServicerContext
    ) -> list[Outcome]:
        with self._lock:
            self.calls.append((method, len(requests), context.time_remaining()))
            self.metadata.append(dict(context.invocation_metadata()))
            self.requests += requests
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            outcomes = [self._validate(request) for request in requests]
            self.on_their_way = [request.access_token for request in requests]
            self.open.wait(30)
            time.sleep(self.answer_delay())
        finally:
            with self._lock:
                self.at_once -= 1
        if self.code is not None:
            context.abort(self.code, "as the test wants")
        if self.refusals:
            context.abort_with_status(self.refusals.pop().status())
        return outcomes

    def validate(
        self, request: pb.ValidateSessionRequest, context: grpc.ServicerContext
    ) -> pb.ValidateSessionResponse:
        """Answers one validation."""
        [outcome] = self._asked("ValidateSession", [request], context)
        if isinstance(outcome, pb.RequestError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, outcome.message)
        assert isinstance(outcome, pb.ValidateSessionResponse)
        return outcome

    def validate_batch(
        self, request: pb.BatchValidateSessionsRequest, context: grpc.ServicerContext
    ) -> pb.BatchValidateSessionsResponse:
        """Answers a batch of validations."""
        outcomes = self._asked("BatchValidateSessions", list(request.requests), context)
        return pb.BatchValidateSessionsResponse(
            results=[
                (
                    pb.BatchValidateSessionsResult(error=outcome)
                    if isinstance(outcome, pb.RequestError)
                    else pb.BatchValidateSessionsResult(response=outcome)
                )
                for outcome in outcomes
            ]
        )

    def renew_session(
        self, request: pb.RenewSessionRequest, _: grpc.ServicerContext
    ) -> pb.RenewSessionResponse:
        """Answers that the token is too new to be renewed."""
        with self._lock:
            self.calls.append(("RenewSession", 1, 0.0))
        found = self._validate(
            pb.ValidateSessionRequest(
                access_token=request.access_token, device_id=request.device_id
            )
        )
        assert isinstance(found, pb.ValidateSessionResponse)
        return pb.RenewSessionResponse(status=found.status, session=found.session)

    def revoke_all(
        self, request: pb.RevokeAllRequest, _: grpc.ServicerContext
    ) -> pb.RevokeAllResponse:
        """Ends a user's session."""
        with self._lock:
            self.calls.append(("RevokeAll", 1, 0.0))
        self.revoke(request.user_id)
        return pb.RevokeAllResponse(revoked_devices=1)

    def watch(
        self, _: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        """Sends all events from now on, and a proof with each message."""
        if self.watch_code is not None:
            context.abort(self.watch_code, "as the test wants")
        with self._lock:
            self.watches += 1
            self.watching += 1
            told, epoch = len(self._events), self._epoch
        context.add_callback(self._watch_ended)
        while context.is_active():
            self.flowing.wait(30)
            with self._lock:
                if epoch != self._epoch:
                    break
                message = pb.WatchEventsResponse(
                    events=self._events[told:], cursor=str(len(self._events))
                )
                told = len(self._events)
                message.read_time.GetCurrentTime()
                message.read_uptime.FromNanoseconds(time.monotonic_ns())
            time.sleep(self.message_delay())
            yield message
            with self._lock:
                news = lambda: len(self._events) > told or epoch != self._epoch  # noqa: B023, E731
                self._lock.wait_for(news, PROOF_SECONDS)
        if not self._over:
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    def _watch_ended(self) -> None:
        with self._lock:
            self.watching -= 1


@contextmanager
def running(options: Sequence[tuple[str, int]] = ()) -> Iterator[tuple[Service, str]]:
    """Runs a stand-in. Yields it with its address."""
    service = Service()
    server = grpc.server(ThreadPoolExecutor(100), options=options)
    handlers: dict[str, Any] = {
        "ValidateSession": grpc.unary_unary_rpc_method_handler(
            service.validate,
            pb.ValidateSessionRequest.FromString,
            pb.ValidateSessionResponse.SerializeToString,
        ),
        "BatchValidateSessions": grpc.unary_unary_rpc_method_handler(
            service.validate_batch,
            pb.BatchValidateSessionsRequest.FromString,
            pb.BatchValidateSessionsResponse.SerializeToString,
        ),
        "RenewSession": grpc.unary_unary_rpc_method_handler(
            service.renew_session,
            pb.RenewSessionRequest.FromString,
            pb.RenewSessionResponse.SerializeToString,
        ),
        "RevokeAll": grpc.unary_unary_rpc_method_handler(
            service.revoke_all,
            pb.RevokeAllRequest.FromString,
            pb.RevokeAllResponse.SerializeToString,
        ),
        "WatchEvents": grpc.unary_stream_rpc_method_handler(
            service.watch,
            pb.WatchEventsRequest.FromString,
            pb.WatchEventsResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    service.address = f"127.0.0.1:{port}"
    try:
        yield service, service.address
    finally:
        service.end()
        server.stop(1).wait()
