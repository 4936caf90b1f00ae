"""A Session Authority for the tests of apps. It listens on loopback and keeps everything in memory,
without Redis.

    with FakeAuthority() as authority, authority.client() as client:
        issued = client.issue_device("ada")
        authority.expire_tokens()
        assert client.renew_session(issued.access_token, issued.device.device_id).rotated

The fake has every method of the contract, and gives the verdicts of the real service with its
default settings. Use `pass_time` to see what happens to a token after minutes or weeks.

It does less than the real service. Tokens are no JWTs, and there are no signing keys. Every caller
may call everything. A session has an idle end only if its sign-in sets an idle timeout, and this
end is exact to the second. The fake does not check the page of a list request, the request of a
watch, the reason of a revocation, `current_device_id` and `except_device_id`. User agents are not
parsed. No event reports that a client presented a token of an ended session. Test these things with
`session-authority dev`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self

import grpc

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._shared.transport import SERVICE
from session_authority_client._sync.client import SessionAuthority
from session_authority_client._testing.service import FakeService
from session_authority_client._testing.state import State, Token

__all__ = ["FakeAuthority"]

# The timeout of the calls that the fake itself makes for a test. It is long, because these calls
# don't test timing.
_OWN_TIMEOUT = timedelta(seconds=30)
_PATIENCE = timedelta(seconds=20)
_THREADS = 64
_DONT_SHARE_PORTS = (("grpc.so_reuseport", 0),)


class FakeAuthority:
    """A fake Session Authority. Use it as a context manager, or call `start` and `stop`.

    `token_ttl` is the lifetime of a token. `replay_alarm` is the service's setting `REPLAY_ALARM`.

    Raises ValueError.
    """

    def __init__(
        self,
        *,
        token_ttl: timedelta = timedelta(hours=1),
        replay_alarm: Literal["presented", "renewed"] = "presented",
    ) -> None:
        if replay_alarm not in ("presented", "renewed"):
            raise ValueError("replay_alarm: must be 'presented' or 'renewed'")
        self._service = FakeService(token_ttl, alarm_on_renewal=replay_alarm == "renewed")
        self._server: grpc.Server | None = None
        self.address = ""

    @property
    def calls(self) -> Counter[str]:
        """The number of calls of each method, by its name in the contract. Refused calls count,
        too.
        """
        return self._service.calls

    @property
    def rotations(self) -> int:
        """The number of times that a session moved to its next generation. All sessions count
        together.
        """
        return self._service.rotations

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts to listen at `address`: at a free port, or at the port of the earlier `start`."""
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=_DONT_SHARE_PORTS)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, self._service.handlers()),)
        )
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """Stops listening and breaks all connections. Users and sessions are kept."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(None).wait()

    def client(self, *, timeout: timedelta = _PATIENCE) -> SessionAuthority:
        """A client of the fake, for threads. Its default timeout is longer than that of a real
        client, because tests run on busy machines.
        """
        return SessionAuthority(self.address, timeout=timeout)

    def async_client(self, *, timeout: timedelta = _PATIENCE) -> AsyncSessionAuthority:
        """A client of the fake, for asyncio. Its default timeout is that of `client`."""
        return AsyncSessionAuthority(self.address, timeout=timeout)

    # --- calls for tests --------------------------------------------------------------------------

    def reset(self) -> None:
        """Removes every user and resets the counts, so that many tests can share one fake. Watches
        end with CursorExpired.
        """
        service = self._service
        with service.changed:
            service.state = State()
            service.calls.clear()
            service.rotations = 0
            service.changed.notify_all()

    def sign_in(
        self,
        user_id: str,
        *,
        claims: Mapping[str, str] | None = None,
        auth_methods: Sequence[str] = (),
        age: timedelta = timedelta(0),
    ) -> dict[str, str]:
        """Signs a user in on a new device. Returns the headers for the requests of this device. The
        device sends its token in headers, as a mobile app does, and not in cookies.

        Use it in tests of pages that require a session: any test client can send the headers. Tests
        of cookies and redirects need a sign-in through the app.

        Args:
            user_id: The user.
            claims: The facts about the user that the app finds in the session.
            auth_methods: How the user proved their identity, such as "pwd".
            age: How long ago the user signed in. The token is new in any case.

        Raises InvalidRequest, and DeviceLimitReached inside `device_limit`.
        """
        with self.client(timeout=_OWN_TIMEOUT) as client:
            issued = client.issue_device(user_id, claims=claims, auth_methods=auth_methods)
        with self._service.changed:
            device = self._service.state.devices[user_id][issued.device.device_id]
            device.created_at -= age
            device.signed_in_at -= age
            if device.session is not None:
                device.session.signed_in_at -= age
        return {
            "Authorization": f"Bearer {issued.access_token}",
            "X-Device-Id": issued.device.device_id,
        }

    def sign_out(self, user_id: str) -> int:
        """Signs a user out on all devices, as another device or an operator can do it. Returns the
        number of devices on which the user was signed in.
        """
        with self.client(timeout=_OWN_TIMEOUT) as client:
            return client.revoke_all(user_id)

    # --- faults and the passing of time -----------------------------------------------------------

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Inside the context, the fake answers every call with UNAVAILABLE."""
        self._service.away = True
        try:
            yield
        finally:
            self._service.away = False

    @contextmanager
    def slow(self, delay: timedelta) -> Iterator[None]:
        """Inside the context, the fake waits for `delay` before each answer. Watches are not
        delayed.
        """
        self._service.delay = delay
        try:
            yield
        finally:
            self._service.delay = timedelta()

    @contextmanager
    def device_limit(self, devices: int) -> Iterator[None]:
        """Inside the context, no user can be signed in on more than `devices` devices."""
        self._service.max_devices = devices
        try:
            yield
        finally:
            self._service.max_devices = None

    @contextmanager
    def replicas(self, *, confirm: bool = True) -> Iterator[None]:
        """Inside the context, the fake has replicas. They confirm every change if `confirm` is
        True, and no change otherwise.
        """
        self._service.replicas_confirm = confirm
        try:
            yield
        finally:
            self._service.replicas_confirm = None

    def pass_time(self, passed: timedelta) -> None:
        """Moves the fake's clock forward by `passed`, so that tokens and sessions are older.

        The machine's clock does not change, and the times in answers are times of this clock. So
        after this call, answers have earlier sign-in times and earlier expiry times.
        """
        with self._service.changed:
            self._service.state.passed += passed

    def age_tokens(self) -> None:
        """Makes every token so old that renewing is recommended: less than half of its lifetime is
        left.
        """
        with self._tokens() as tokens:
            for token in tokens:
                token.aged = True

    def expire_tokens(self) -> None:
        """Makes every token expire. The sessions stay alive."""
        with self._tokens() as tokens:
            for token in tokens:
                token.expired = True

    def replay_tokens(self) -> None:
        """Makes every token count as replayed when it is presented next, if its device is still
        signed in.
        """
        with self._tokens() as tokens:
            for token in tokens:
                token.replayed = True

    @contextmanager
    def _tokens(self) -> Iterator[Sequence[Token]]:
        with self._service.changed:
            yield list(self._service.state.tokens.values())
