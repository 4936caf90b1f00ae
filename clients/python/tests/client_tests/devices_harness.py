"""The harness for the page of devices and its API, in all apps with the fake service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import httpx

from client_tests.middleware_harness import browser_of
from session_authority_client import ClientInfo
from session_authority_client._testing.messages import abort
from session_authority_client._testing.state import Device as FakeDevice
from session_authority_client._testing.state import Session as FakeSession
from session_authority_client.devices import DevicesPage
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from session_authority_client.wire import session_authority_pb2 as pb

MOUNT = "/my/devices"
PAGE = DevicesPage(path=MOUNT, secure_account_url="/password")
FLOW = Flow(devices=PAGE)
API = f"{MOUNT}/api"
# The page for a new password, with the path back to the devices.
PASSWORD = f"/password?next={MOUNT}/secure%3Fdone%3Dpassword"
DAY = timedelta(days=1)
OWN = {"sec-fetch-site": "same-origin"}


@asynccontextmanager
async def signed_in(
    make: Any, authority: FakeAuthority, flow: Flow = FLOW, user: str = "ada"
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of a signed-in user, at an app that `make` has made."""
    async with browser_of(make(authority, flow)) as browser:
        assert (await browser.post("/sign-in", params={"user": user})).status_code == 200
        yield browser


def add_devices(
    authority: FakeAuthority, clients: Sequence[ClientInfo], user: str = "ada"
) -> list[str]:
    """Signs a user in on more devices. Returns their IDs."""
    with authority.client(timeout=timedelta(seconds=30)) as client:
        return [client.issue_device(user, client=each).device.device_id for each in clients]


def remember_devices(authority: FakeAuthority, count: int, *, signed_out: int) -> None:
    """Gives the user many devices, without a call for each device. The signed-out devices were used
    last.
    """
    service = authority._service
    with service.changed:
        now = service.state.now()
        devices = service.state.devices["ada"]
        for number in range(count):
            device_id, seen = str(uuid4()), now - timedelta(seconds=count - number)
            device = devices[device_id] = FakeDevice(device_id, pb.ClientInfo(), seen, seen, seen)
            if number < count - signed_out:
                device.session = FakeSession("ada", device_id, {}, (), seen, now + DAY, None)


@contextmanager
def refusing(
    authority: FakeAuthority, rpcs: Sequence[str], code: grpc.StatusCode, reason: str
) -> Iterator[None]:
    """Makes the service refuse these RPCs inside the `with` block."""
    service = authority._service
    before = service.calls.copy()

    def check_available(context: grpc.ServicerContext) -> None:
        made = service.calls - before
        before.update(made)
        if made.keys() & set(rpcs):
            abort(context, code, reason)

    # This attribute of the instance hides the method of the class.
    service.check_available = check_available  # type: ignore[method-assign]
    try:
        yield
    finally:
        del service.check_available


async def listed(browser: httpx.AsyncClient, after: str = "") -> Any:
    """Returns the API's list of devices."""
    answer = await browser.get(f"{API}/devices", params={"after": after} if after else {})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(
    browser: httpx.AsyncClient,
    path: str,
    told: Mapping[str, object] | None = None,
    headers: Mapping[str, str] = OWN,
) -> httpx.Response:
    """Sends JSON to the API."""
    return await browser.post(f"{API}{path}", json=told, headers=dict(headers))
