"""Plays the whole life of a session against a running server, and explains each step. The demo is
for people who want to see the calls and have not installed `grpcurl`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import grpc
from rich.console import Console
from rich.table import Table

from session_authority.console.connection import Target, channel_to, health
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

_CALL_SECONDS = 5.0
_POLL_SECONDS = 0.5
_LAPTOP = pb.ClientInfo(
    ip_address="203.0.113.7",
    user_agent=(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/140.0.0.0 Safari/537.36"
    ),
)
_PHONE = pb.ClientInfo(
    ip_address="198.51.100.23",
    user_agent=(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
        " Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
    ),
    app_version="4.12.0",
)
_THIEF = pb.ClientInfo(ip_address="192.0.2.66", user_agent="curl/8.7.1")


class DemoFailed(Exception):
    """The demo failed. The message names the server or the step, and gives the reason."""


def play(server: Target, out: Console, renewal_time: timedelta) -> None:
    """Plays the demo. `renewal_time` is the longest time that one step may wait, for example until
    a token is old enough for a renewal. Raises DemoFailed if the server is not ready or a call
    fails. Also raises DemoFailed if a step takes too long or does not have the expected result.
    """
    target = server.reachable()
    status = health(target, _CALL_SECONDS)
    if status != "SERVING":
        raise DemoFailed(f"{target}: {status}; start a server with `session-authority dev`")
    with channel_to(target) as channel:
        try:
            _Life(
                pb_grpc.SessionAuthorityServiceStub(channel), out, renewal_time.total_seconds()
            ).play()
        except grpc.RpcError as error:
            raise DemoFailed(f"{target}: {error.code().name}: {error.details()}") from None


class _Life:
    def __init__(
        self, stub: pb_grpc.SessionAuthorityServiceStub, out: Console, renewal_seconds: float
    ) -> None:
        self._stub = stub
        self._out = out
        self._renewal_seconds = renewal_seconds
        self._user = f"demo-{uuid4().hex[:8]}"
        self._step = 0

    def play(self) -> None:
        self._tell("Sami signs in on a laptop and on a phone (IssueDevice).")
        laptop = self._sign_in(_LAPTOP)
        phone = self._sign_in(_PHONE)
        self._say(
            f"laptop {laptop.device.device_id}, phone {phone.device.device_id}; both new devices"
        )

        self._tell("Every request brings device ID and token; the backend asks (ValidateSession).")
        self._expect(laptop.access_token, laptop, _LAPTOP, pb.SESSION_STATUS_ACTIVE)
        self._expect("", laptop, _LAPTOP, pb.SESSION_STATUS_TOKEN_MISSING)
        self._expect("not.a.token", laptop, _LAPTOP, pb.SESSION_STATUS_TOKEN_INVALID)

        self._tell(
            "Sami gives the phone a name (UpdateDevice). The account page shows My Devices"
            " (ListDevices)."
        )
        self._stub.UpdateDevice(
            pb.UpdateDeviceRequest(
                user_id=self._user, device_id=phone.device.device_id, display_name="Sami's phone"
            ),
            timeout=_CALL_SECONDS,
        )
        self._show_devices(laptop.device.device_id)

        self._tell("After a while the laptop's token is swapped for the next one (RenewSession).")
        renewed = self._renew_when_old_enough(laptop)
        self._say(f"generation {renewed.session.generation}, a new token")

        self._tell(
            "The new token may be lost on its way, or before the laptop has written it to its disk."
            " So the old token is still good."
        )
        self._expect(laptop.access_token, laptop, _LAPTOP, pb.SESSION_STATUS_ACTIVE)
        self._expect(renewed.access_token, laptop, _LAPTOP, pb.SESSION_STATUS_ACTIVE)
        self._say(
            "a use of the new token at an age of DURABLE_AFTER shows that the laptop has kept it;"
            " then the old token is good only for a short time (GRACE)"
        )

        self._tell(
            "A thief has copied the old token, and the device ID too, and tries it while the laptop"
            " is in use."
        )
        seen = self._watch_until_replayed(laptop, renewed.access_token)
        self._say(f"statuses while time passed: {' → '.join(seen)}")

        self._tell("The alarm: Sami is signed out everywhere at the same moment.")
        self._expect(renewed.access_token, laptop, _LAPTOP, pb.SESSION_STATUS_NO_SESSION)
        self._expect(phone.access_token, phone, _PHONE, pb.SESSION_STATUS_NO_SESSION)

        self._tell("Sami signs in again. The thief's old token raises no alarm any more.")
        again = self._sign_in(_LAPTOP, laptop.device.device_id)
        self._expect(laptop.access_token, laptop, _THIEF, pb.SESSION_STATUS_SESSION_ENDED)
        self._expect(again.access_token, again, _LAPTOP, pb.SESSION_STATUS_ACTIVE)

        self._tell("Sami signs out everywhere (RevokeAll).")
        revoked = self._stub.RevokeAll(
            pb.RevokeAllRequest(user_id=self._user, reason="demo", forget=True),
            timeout=_CALL_SECONDS,
        )
        self._say(f"signed out on {revoked.revoked_devices} device")
        self._expect(again.access_token, again, _LAPTOP, pb.SESSION_STATUS_NO_SESSION)
        self._out.print("\nThat was a session's life.")

    def _tell(self, text: str) -> None:
        self._step += 1
        self._out.print(f"\n[bold]{self._step}. {text}[/bold]")

    def _say(self, text: str) -> None:
        self._out.print(f"   {text}", markup=False)

    def _sign_in(self, client: pb.ClientInfo, device_id: str = "") -> pb.IssueDeviceResponse:
        request = pb.IssueDeviceRequest(
            user_id=self._user,
            device_id=device_id,
            client=client,
            claims={"email": "sami@example.org"},
            auth_methods=["pwd", "otp"],
            request_id=str(uuid4()),
        )
        answer: pb.IssueDeviceResponse = self._stub.IssueDevice(request, timeout=_CALL_SECONDS)
        return answer

    def _validate(
        self, token: str, on: pb.IssueDeviceResponse, client: pb.ClientInfo
    ) -> pb.ValidateSessionResponse:
        request = pb.ValidateSessionRequest(
            access_token=token, device_id=on.device.device_id, client=client
        )
        answer: pb.ValidateSessionResponse = self._stub.ValidateSession(
            request, timeout=_CALL_SECONDS
        )
        return answer

    def _expect(
        self,
        token: str,
        on: pb.IssueDeviceResponse,
        client: pb.ClientInfo,
        expected: pb.SessionStatus,
    ) -> None:
        answer = self._validate(token, on, client)
        if answer.status != expected:
            raise DemoFailed(
                f"step {self._step}: expected {_name(expected)}, the server said"
                f" {_name(answer.status)}"
            )
        self._say(_name(answer.status))

    def _show_devices(self, current: str) -> None:
        answer = self._stub.ListDevices(
            pb.ListDevicesRequest(user_id=self._user, current_device_id=current),
            timeout=_CALL_SECONDS,
        )
        table = Table("device", "browser", "system", "kind", "address", "last seen", "")
        for device in answer.devices:
            table.add_row(
                device.display_name,
                device.browser,
                device.operating_system,
                pb.FormFactor.Name(device.form_factor).removeprefix("FORM_FACTOR_").lower(),
                device.last_client.ip_address,
                device.last_seen_time.ToDatetime().strftime("%H:%M:%S"),
                "this one" if device.current else "",
            )
        self._out.print(table)

    def _renew_when_old_enough(self, on: pb.IssueDeviceResponse) -> pb.RenewSessionResponse:
        request = pb.RenewSessionRequest(
            access_token=on.access_token, device_id=on.device.device_id, client=_LAPTOP
        )
        answers: list[pb.RenewSessionResponse] = []

        def rotated() -> bool:
            answers.append(self._stub.RenewSession(request, timeout=_CALL_SECONDS))
            return answers[-1].rotated

        self._wait("a token is renewed once it is as old as ALARM_AFTER", rotated)
        return answers[-1]

    def _watch_until_replayed(self, on: pb.IssueDeviceResponse, newer: str) -> list[str]:
        """Validates the token of `on` and its successor `newer` in turns, until the token of `on`
        counts as replayed. Returns the statuses that the token of `on` had.
        """
        seen: list[str] = []

        def replayed() -> bool:
            self._validate(newer, on, _LAPTOP)
            status = _name(self._validate(on.access_token, on, _THIEF).status)
            if not seen or seen[-1] != status:
                seen.append(status)
            return status == "REPLAYED"

        self._wait(
            "the old token is denied after GRACE, and raises the alarm after ALARM_AFTER, both"
            " counted from DURABLE_AFTER",
            replayed,
        )
        return seen

    def _wait(self, why: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._renewal_seconds
        with self._out.status(f"waiting: {why}"):
            while not done():
                if time.monotonic() > deadline:
                    raise DemoFailed(
                        f"step {self._step}: {why}, which takes this server longer than"
                        f" {self._renewal_seconds:g} s; start it with SESSION_AUTHORITY_GRACE=2s,"
                        " SESSION_AUTHORITY_DURABLE_AFTER=2s and SESSION_AUTHORITY_ALARM_AFTER=6s,"
                        " or give --patience"
                    )
                time.sleep(_POLL_SECONDS)


def _name(status: pb.SessionStatus) -> str:
    return pb.SessionStatus.Name(status).removeprefix("SESSION_STATUS_")
