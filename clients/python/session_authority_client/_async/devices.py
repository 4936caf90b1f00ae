"""Answers the requests to the page of devices and its API: calls the service as a request wants
it, and has the rest decided.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from session_authority_client._async.visit import AsyncVisit
from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._shared.responses import Response
from session_authority_client.devices import answers, failures, openapi
from session_authority_client.devices.listing import Listing, listing
from session_authority_client.devices.representation import device_json, list_json
from session_authority_client.devices.requests import BadRequest, DevicesRequest, texts_for
from session_authority_client.devices.routes import PUBLIC, Action, Route, route_of
from session_authority_client.devices.settings import DevicesPage
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.types import Device

_log = logging.getLogger("session_authority_client")
# One call lists the devices of nearly every user.
_DEVICES_IN_A_CALL = 1000


async def async_answer_devices(
    page: DevicesPage, visit: AsyncVisit, request: DevicesRequest
) -> Response:
    """The response to a request to the page, or below it."""
    route = route_of(page.path, request.method, request.target)
    if route.action is None:
        code = "method_not_allowed" if route.allowed else "not_found"
        return failures.response(page, request, failures.Failure(code, headers=route.allow))
    if route.action in PUBLIC:
        return _public(page, route.action, request)
    try:
        visit.require()
        return await _Exchange(page, visit, request, route).answer(route.action)
    except failures.EXPECTED as error:
        visit.take_refusal()  # it is answered here
        if isinstance(error, SessionAuthorityError):
            _log.warning("A page of devices is not served: %s", error.reason or error.code.name)
        return failures.response(page, request, failures.failure_of(error))


def _public(page: DevicesPage, action: Action, request: DevicesRequest) -> Response:
    if action is Action.OPENAPI:
        return answers.answer(200, openapi.document(page.path))
    texts = texts_for(page, request.headers, request.query().get("language", ""))
    told = {
        "language": texts.language,
        "direction": texts.direction,
        "messages": dict(texts.messages),
    }
    return answers.answer(200, told)


class _Exchange:
    """A request of a user who is signed in."""

    def __init__(
        self, page: DevicesPage, visit: AsyncVisit, request: DevicesRequest, route: Route
    ) -> None:
        self._page = page
        self._visit = visit
        self._request = request
        self._route = route

    async def answer(self, action: Action) -> Response:
        """The response."""
        steps: Mapping[Action, Callable[[], Any]] = {
            Action.LIST: self._list,
            Action.RENAME: self._rename,
            Action.SIGN_OUT_DEVICE: self._sign_out_device,
            Action.NOT_ME: self._not_me,
            Action.SIGN_OUT_OTHERS: self._sign_out_others,
            Action.SIGN_OUT_HERE: self._sign_out_here,
        }
        response: Response = await steps[action]()
        return response

    # --- the API ----------------------------------------------------------------------------------

    async def _list(self) -> Response:
        found = await self._listing()
        return answers.answer(200, list_json(found, self._page.secure_account_url))

    async def _rename(self) -> Response:
        device = await self._named(self._route.name, self._request.json_text("name"))
        return answers.answer(200, {"device": device_json(device, datetime.now(UTC))})

    async def _sign_out_device(self) -> Response:
        self._request.check_type()
        ended = await self._ended(self._route.name, "sign_out")
        return answers.answer(200, {"signed_out": ended})

    async def _not_me(self) -> Response:
        self._request.check_type()
        ended = await self._ended(self._route.name, "not_me")
        url = self._page.secure_account_url
        return answers.answer(200, {"signed_out": ended, "secure_account_url": url})

    async def _sign_out_others(self) -> Response:
        self._request.check_type()
        ended = await self._visit.sign_out_everywhere()
        return answers.answer(200, {"signed_out": ended})

    async def _sign_out_here(self) -> Response:
        self._request.check_type()
        return answers.answer(200, {"signed_out": int(await self._visit.sign_out())})

    # --- what they do -----------------------------------------------------------------------------

    async def _listing(self) -> Listing:
        query = self._request.query()
        devices = await self._devices()
        now = datetime.now(UTC)
        return listing(devices, now, after=query.get("after", ""), event_id=query.get("alarm", ""))

    async def _devices(self) -> list[Device]:
        found = await self._visit.devices(include_signed_out=True, page_size=_DEVICES_IN_A_CALL)
        return list(found)

    async def _named(self, device_id: str, name: str) -> Device:
        """The device with its new name. Raises DeviceNotFound, InvalidRequest."""
        here = self._visit.require().device_id
        device = await self._visit.rename(_known_form(device_id), name)
        return replace(device, current=device.device_id == here)

    async def _ended(self, device_id: str, reason: str) -> int:
        """Signs a device out, and returns on how many the user was signed in: 1 or 0. A device of
        another user is no device here.
        """
        named = _known_form(device_id)
        if await self._visit.sign_out(named, reason=reason):
            return 1
        if named not in {device.device_id for device in await self._devices()}:
            raise BadRequest("unknown_device")
        return 0


def _known_form(device_id: str) -> str:
    named = canonical_device_id(device_id)
    if not named:
        raise BadRequest("unknown_device")
    return named
