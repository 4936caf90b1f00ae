"""Lists the devices of a user, gives them names, and signs the user out on devices."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from session_authority.authority.device_events import device_event
from session_authority.authority.resources import Resources
from session_authority.domain import pages
from session_authority.domain.devices import DeviceRecord, ListedDevice, list_devices, listed
from session_authority.domain.errors import DeviceNotFound, FieldViolation, InvalidRequest
from session_authority.domain.events import Event, EventType
from session_authority.domain.fields import MAX_USER_AGENT_BYTES
from session_authority.domain.identifiers import device_key
from session_authority.domain.results import DevicePage
from session_authority.store.records import Commit, Committed, Stored


class Devices:
    """Carries out ListDevices, UpdateDevice, RevokeDevice and RevokeAll."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._store = resources.store
        self._limits = resources.limits

    async def list_devices(
        self,
        user_id: str,
        *,
        current_device_id: UUID | None,
        include_signed_out: bool,
        page_size: int,
        page_token: str,
    ) -> DevicePage:
        """Returns a page of a user's devices. The device that was used last comes first.

        Args:
            user_id: The user.
            current_device_id: The device that is shown as the current one. None if no device is
                current.
            include_signed_out: True if devices without a live session are listed, too.
            page_size: The largest number of devices on the page.
            page_token: The `next_page_token` of the previous page. Empty for the first page.

        Raises InvalidRequest if `page_token` is not empty and is no page token of this list.
        """
        scope = pages.list_scope(user_id, include_signed_out)
        after = None
        if page_token:
            after = pages.parse_page_token(page_token, scope)
            if after is None:
                rule = "must be the next_page_token of a page of the same list"
                raise InvalidRequest([FieldViolation("page_token", rule)])
        now = self._resources.clock()
        state = await self._store.user(user_id)
        ended = {k: s for k, s in state.sessions.items() if not s.record.is_live(self._limits, now)}
        self._resources.remove_ended(user_id, ended, now)
        everything = list_devices(
            sessions=state.session_records(),
            devices=state.device_records(),
            current_key=None if current_device_id is None else device_key(current_device_id),
            include_signed_out=include_signed_out,
            limits=self._limits,
            now=now,
        )
        rest = [d for d in everything if after is None or d.sort_key() > after]
        page = pages.first_page(rest, page_size, lambda d: _shown_bytes(state.devices[d.key]))
        more = pages.page_token(page[-1], scope) if len(rest) > len(page) else ""
        return DevicePage(page, more, len(everything))

    async def update_device(self, user_id: str, device_id: UUID, display_name: str) -> ListedDevice:
        """Gives a device a name. An empty `display_name` removes the name. Raises DeviceNotFound if
        the user has no such device. Raises Conflict if other requests change the record of the
        device at each attempt.
        """
        key = device_key(device_id)
        async with self._resources.user_locks.of(user_id):
            attempts = self._resources.attempts()
            while True:
                now = await attempts.next()
                session, device = await self._store.session_and_device(user_id, key)
                if device is None:
                    raise DeviceNotFound
                named = replace(device.record, display_name=display_name)
                commit = Commit(user_id, now, if_devices={key: device}, set_devices={key: named})
                if isinstance(await self._store.commit(commit), Committed):
                    record = None if session is None else session.record
                    return listed(key, named, record, self._limits, now)

    async def revoke_device(
        self, user_id: str, device_id: UUID, *, reason: str, forget: bool, actor: str
    ) -> bool:
        """Signs a user out on a device. Returns True if the user was signed in on the device.

        Args:
            user_id: The user.
            device_id: The device.
            reason: The reason that is written into the event.
            forget: True if the record of the device is removed, too.
            actor: The name of the caller.
        """
        key, now = device_key(device_id), self._resources.clock()
        session, device = await self._store.session_and_device(user_id, key)
        record = None if session is None else session.record
        event = device_event(EventType.DEVICE_REVOKED, now, user_id, actor, device, record)
        event = replace(event, device_id=device_id, reason=reason)
        removed = await self._store.revoke_device(user_id, key, forget=forget, event=event)
        self._resources.metrics.revoked("device")
        self._resources.reassertions.note(user_id, removed, event)
        return self._resources.count_live(removed, now) > 0

    async def revoke_all(
        self, user_id: str, *, except_device_id: UUID | None, reason: str, forget: bool, actor: str
    ) -> int:
        """Signs a user out on all devices, or on all devices except one. Returns the number of
        devices on which a live session ended.

        Args:
            user_id: The user.
            except_device_id: The device that stays signed in. None if no device stays signed in.
            reason: The reason that is written into the event.
            forget: True if the records of the devices are removed, too.
            actor: The name of the caller.
        """
        now = self._resources.clock()
        event = Event(
            EventType.ALL_REVOKED,
            now,
            user_id,
            actor,
            reason=reason,
            except_device_id=except_device_id,
        )
        except_key = None if except_device_id is None else device_key(except_device_id)
        removed = await self._store.revoke_all(
            user_id, except_key=except_key, forget=forget, event=event
        )
        self._resources.metrics.revoked("all" if except_key is None else "all_but_one")
        self._resources.reassertions.note(user_id, removed, event)
        return self._resources.count_live(removed, now)


def _shown_bytes(device: Stored[DeviceRecord]) -> int:
    """Returns the approximate number of bytes that a device needs in an answer. The number is the
    size of the device's record, plus the size of the user agent, plus twice the size of the name of
    the client. The record has the user agent and the description of the client only in a compressed
    form.
    """
    client = device.record.last_client
    name = "" if client.appearance is None else client.appearance.name
    return len(device.raw) + min(len(client.user_agent), MAX_USER_AGENT_BYTES) + 2 * len(name)
