"""Answers the requests to the page of devices and to its API. This module makes the calls to the
service. The package `devices` decides what a request means, and makes the contents of the
responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from session_authority_client._async.visit import AsyncVisit
from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._shared.responses import Response, SignInRequired, redirect
from session_authority_client.devices import answers, failures, screens
from session_authority_client.devices.listing import Listing, listing
from session_authority_client.devices.representation import device_json, list_json
from session_authority_client.devices.requests import BadRequest, DevicesRequest, texts_for
from session_authority_client.devices.routes import Action, Route, route_of
from session_authority_client.devices.settings import DevicesPage
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.types import Device

# With this page size, one call lists all devices of nearly every user.
_DEVICES_IN_A_CALL = 1000


async def async_answer_devices(
    page: DevicesPage, visit: AsyncVisit, request: DevicesRequest
) -> Response:
    """Returns the response to a request to the page of devices, or to a path below it. Before it
    calls this function, the middleware has answered the requests that need no session, such as
    requests for scripts and styles. This function also refuses requests with an unknown path or a
    wrong method.
    """
    route = route_of(page.path, request.method, request.target)
    if route.action is None:
        code = "method_not_allowed" if route.allowed else "not_found"
        return failures.response(page, request, failures.Failure(code, headers=route.allow))
    try:
        visit.require()
        return await _Exchange(page, visit, request, route).answer(route.action)
    except failures.EXPECTED as error:
        visit.take_refusal()  # the response below replaces the refusal's own response
        failure = failures.failure_of(error)
        if isinstance(error, SessionAuthorityError) and failure.is_of_service:
            visit.note_refusal(error)
        return failures.response(page, request, failure)


class _Exchange:
    """One request of a signed-in user to the page of devices or to its API."""

    def __init__(
        self, page: DevicesPage, visit: AsyncVisit, request: DevicesRequest, route: Route
    ) -> None:
        self._page = page
        self._visit = visit
        self._request = request
        self._route = route
        self._texts = texts_for(page, request.headers)

    async def answer(self, action: Action) -> Response:
        """Carries out the action of the request, and returns the response."""
        steps: Mapping[Action, Callable[[], Any]] = {
            Action.PAGE: self._page_of_devices,
            Action.ASK_OTHERS: self._ask_others,
            Action.ASK_NOT_ME: self._ask_not_me,
            Action.SECURE: self._secure,
            Action.FORM_RENAME: self._form_rename,
            Action.FORM_SIGN_OUT: self._form_sign_out,
            Action.FORM_NOT_ME: self._form_not_me,
            Action.FORM_OTHERS: self._form_others,
            Action.LIST: self._list,
            Action.RENAME: self._rename,
            Action.SIGN_OUT_DEVICE: self._sign_out_device,
            Action.NOT_ME: self._not_me,
            Action.SIGN_OUT_OTHERS: self._sign_out_others,
            Action.SIGN_OUT_HERE: self._sign_out_here,
        }
        response: Response = await steps[action]()
        return response

    # --- the page ---------------------------------------------------------------------------------

    async def _page_of_devices(self) -> Response:
        found = await self._listing()
        return screens.list_screen(self._page, self._texts, found, self._request.query())

    async def _ask_others(self) -> Response:
        return screens.others_screen(self._page, self._texts)

    async def _ask_not_me(self) -> Response:
        found, device_id = await self._listing(), self._request.query().get("device", "")
        if device_id not in {device.device_id for device in found.everything}:
            raise BadRequest("unknown_device")
        return screens.not_me_screen(self._page, self._texts, found, device_id)

    async def _secure(self) -> Response:
        found = await self._listing()
        return screens.secure_screen(self._page, self._texts, found, self._request.query())

    async def _form_rename(self) -> Response:
        form = self._request.form()
        device = await self._named(form.get("device", ""), form.get("name", ""))
        done = "renamed" if form.get("name", "").strip() else "name_removed"
        return self._see(done=done, device=device.device_id)

    async def _form_sign_out(self) -> Response:
        device_id = self._request.form().get("device", "")
        here = _known_form(device_id) == self._visit.require().device_id
        await self._ended(device_id)
        return self._to_sign_in() if here else self._see(done="signed_out", device=device_id)

    def _to_sign_in(self) -> Response:
        """Redirects to the page of devices, from where the browser is redirected to the sign-in
        page. Raises SignInRequired if the sign-in page is at another origin.
        """
        try:
            self._visit.require()
        except SignInRequired as refused:
            if failures.leads_elsewhere(refused.answer):
                raise
            self._visit.take_refusal()
        return redirect(self._page.path)

    async def _form_not_me(self) -> Response:
        device_id = self._request.form().get("device", "")
        await self._forgotten(device_id)
        return self._see("/secure", device=device_id)

    async def _form_others(self) -> Response:
        ended = await self._visit.sign_out_everywhere()
        return self._see(done="others", count=str(ended))

    def _see(self, below: str = "", **query: str) -> Response:
        return redirect(f"{self._page.path}{below}?{urlencode(query)}")

    # --- the API ----------------------------------------------------------------------------------

    async def _list(self) -> Response:
        found = await self._listing()
        return answers.answer(200, list_json(found, self._page.password_url))

    async def _rename(self) -> Response:
        device = await self._named(self._route.name, self._request.json_text("name"))
        return answers.answer(200, {"device": device_json(device, datetime.now(UTC))})

    async def _sign_out_device(self) -> Response:
        self._request.check_type()
        ended = await self._ended(self._route.name)
        return answers.answer(200, {"signed_out": ended})

    async def _not_me(self) -> Response:
        self._request.check_type()
        ended = await self._forgotten(self._route.name)
        url = self._page.password_url
        return answers.answer(200, {"signed_out": ended, "secure_account_url": url})

    async def _sign_out_others(self) -> Response:
        self._request.check_type()
        ended = await self._visit.sign_out_everywhere()
        return answers.answer(200, {"signed_out": ended})

    async def _sign_out_here(self) -> Response:
        self._request.check_type()
        return answers.answer(200, {"signed_out": int(await self._visit.sign_out())})

    # --- the actions ------------------------------------------------------------------------------

    async def _listing(self) -> Listing:
        query = self._request.query()
        devices = await self._devices()
        now = datetime.now(UTC)
        return listing(devices, now, after=query.get("after", ""), event_id=query.get("alarm", ""))

    async def _devices(self) -> list[Device]:
        found = await self._visit.devices(include_signed_out=True, page_size=_DEVICES_IN_A_CALL)
        return list(found)

    async def _named(self, device_id: str, name: str) -> Device:
        """Changes the name of a device, and returns the device. Raises BadRequest for a text that
        is no device ID, and the exceptions of the method `rename` of the visit.
        """
        here = self._visit.require().device_id
        device = await self._visit.rename(_known_form(device_id), name)
        return replace(device, current=device.device_id == here)

    async def _ended(self, device_id: str) -> int:
        """Signs the user out on a device. Returns 1 if the user was signed in on the device, and 0
        if not. Raises BadRequest for a text that is no device ID, and for a device that is not in
        the list of the user.
        """
        named = _known_form(device_id)
        if await self._visit.sign_out(named):
            return 1
        await self._check_listed(named)
        return 0

    async def _forgotten(self, device_id: str) -> int:
        """Signs out a device that the user does not know, and removes the device from the list. If
        the device stayed in the list, a stranger's next sign-in on the device would count as a
        sign-in on a known device. No mail reports a sign-in on a known device. Raises BadRequest
        for a text that is no device ID, and for a device that is not in the list of the user.
        """
        named = _known_form(device_id)
        await self._check_listed(named)  # before `sign_out` removes the device
        return int(await self._visit.sign_out(named, reason="not_me", forget=True))

    async def _check_listed(self, device_id: str) -> None:
        if device_id not in {device.device_id for device in await self._devices()}:
            raise BadRequest("unknown_device")


def _known_form(device_id: str) -> str:
    named = canonical_device_id(device_id)
    if not named:
        raise BadRequest("unknown_device")
    return named
