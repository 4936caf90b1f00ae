"""Provides a fake Session Authority for the tests of apps. The fake listens on loopback and keeps
everything in memory, without Redis.

    with FakeAuthority() as authority, authority.client() as client:
        issued = client.issue_device("ada")
        authority.expire_tokens()
        assert client.renew_session(issued.access_token, issued.device.device_id).rotated

The fake has every method of the contract, and gives the verdicts of the real service with its
default settings. Use `pass_time` to see what happens to a token after minutes or weeks.

The fake does less than the real service. The fake's tokens are no JWTs, and the fake has no signing
keys. Every caller may call every method. A session of the fake has an idle end only if its sign-in
sets an idle timeout. In the fake, each use of a session moves its idle end. The real service moves
an idle end at most once per `TOUCH_INTERVAL`. The fake does not check the page of ListDevices, the
request of WatchEvents, the reason of a revocation, `current_device_id` and `except_device_id`. The
fake does not parse user agents. The fake writes no event when a client presents a token of an ended
session. Use `session-authority dev` to test what the fake does not do.
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

# The timeout of the calls that `sign_in` and `sign_out` make. These two methods are not for tests
# of timing, so the timeout is long.
_OWN_TIMEOUT = timedelta(seconds=30)
_PATIENCE = timedelta(seconds=20)
_THREADS = 64
_DONT_SHARE_PORTS = (("grpc.so_reuseport", 0),)


class FakeAuthority:
    """A fake Session Authority for tests. Use FakeAuthority as a context manager, or call `start`
    and `stop`.

    `token_ttl` is the lifetime of a token. `replay_alarm` stands for the service's setting
    `REPLAY_ALARM`.

    Raises ValueError if `replay_alarm` is neither "presented" nor "renewed".
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
        """Returns the number of calls of each method. The keys of the result are the names of the
        methods in the contract. Refused calls count, too.
        """
        return self._service.calls

    @property
    def rotations(self) -> int:
        """Returns how often any session went on to its next generation."""
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
        """Starts to listen at `address` on loopback. The first call chooses a free port. A call
        after `stop` uses the same port again.
        """
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=_DONT_SHARE_PORTS)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, self._service.handlers()),)
        )
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """Stops listening and breaks all connections. The fake keeps its users and sessions."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(None).wait()

    def client(self, *, timeout: timedelta = _PATIENCE) -> SessionAuthority:
        """Makes a client of the fake, for threads. The default timeout is longer than that of
        SessionAuthority, because tests run on busy machines.
        """
        return SessionAuthority(self.address, timeout=timeout)

    def async_client(self, *, timeout: timedelta = _PATIENCE) -> AsyncSessionAuthority:
        """Makes a client of the fake, for asyncio. The default timeout is that of `client`."""
        return AsyncSessionAuthority(self.address, timeout=timeout)

    # --- calls for tests --------------------------------------------------------------------------

    def reset(self) -> None:
        """Removes every user, and sets the counts to zero, so that many tests can share one fake.
        Watches that are open end with CursorExpired.
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
        """Signs a user in on a new device. Returns the headers for requests of the new device. The
        headers contain the token and the device ID, as the requests of a mobile app do. A browser
        would send cookies instead.

        Use this method in tests of pages that require a session. Any test client can send the
        headers. In tests of cookies and redirects, sign in through the app, and not with this
        method.

        Args:
            user_id: The user.
            claims: The facts about the user that the app finds in the session.
            auth_methods: How the user proved their identity, such as "pwd".
            age: How long ago the user signed in. The token is new in any case.

        Raises InvalidRequest if an argument breaks a rule of the service. Inside `device_limit`,
        raises DeviceLimitReached if the user is signed in on too many devices.
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
        """Signs a user out on all devices, as if another device or an operator had done so. Returns
        the number of devices on which the user was signed in.
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
        """Inside the context, the fake waits for `delay` before it handles a call. Calls that open
        a watch are not delayed.
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
        """Inside the context, the fake behaves as if its store had replicas. If `confirm` is True,
        the replicas confirm every change. If `confirm` is False, the replicas confirm no change.
        """
        self._service.replicas_confirm = confirm
        try:
            yield
        finally:
            self._service.replicas_confirm = None

    def pass_time(self, passed: timedelta) -> None:
        """Moves the fake's clock forward by `passed`, so that tokens and sessions are older.

        The machine's clock does not change. In answers, the fake converts the times of sessions,
        tokens and devices to times of the machine's clock. So after this call, answers have earlier
        sign-in times and earlier expiry times.
        """
        with self._service.changed:
            self._service.state.passed += passed

    def age_tokens(self) -> None:
        """Makes the fake treat every token as so old that a renewal is recommended: less than half
        of the token's lifetime is left.
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
        """Makes every token count as replayed when a client presents it next, if the user is still
        signed in on the token's device.
        """
        with self._tokens() as tokens:
            for token in tokens:
                token.replayed = True

    @contextmanager
    def _tokens(self) -> Iterator[Sequence[Token]]:
        with self._service.changed:
            yield list(self._service.state.tokens.values())
