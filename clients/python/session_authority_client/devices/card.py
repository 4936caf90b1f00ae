"""Makes the card of a device on the page "My devices". The card shows facts about the device, and
has the buttons and links for the device.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlencode

from session_authority_client.devices import locales
from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.icons import icon
from session_authority_client.devices.layout import button, form, hidden, link
from session_authority_client.devices.listing import (
    KINDS,
    Listing,
    alarm_of,
    is_active_now,
    name_of,
)
from session_authority_client.devices.markup import Markup, Node, element, phrase
from session_authority_client.devices.renaming import rename_form
from session_authority_client.devices.representation import time_text
from session_authority_client.devices.settings import DevicesPage
from session_authority_client.types import Device


def card(page: DevicesPage, texts: Texts, device: Device, title: str, found: Listing) -> Markup:
    """Makes the card of a device. `title` is the title of the device in the list."""
    marked = device.device_id == found.marked
    badge = element("span", texts.text("this_device"), class_="badge") if device.current else None
    return element(
        "li",
        icon(KINDS[device.form_factor]),
        element(
            "div",
            element(
                "div",
                element("h2", element("bdi", title), " ", badge),
                _facts(texts, device, found.now, marked=marked),
                _changes(page, texts, device, title),
                class_="about",
            ),
            _sign_out(page, texts, device, title) if device.signed_in else None,
            class_="content",
        ),
        class_=" ".join(["device", *(["current"] if device.current else [])]),
        id=f"device-{device.device_id}",
    )


def when(texts: Texts, moment: datetime, now: datetime) -> Markup:
    """Makes the HTML for a time. The text is a relative time, such as "2 hours ago", or the date if
    the time is a week ago or more. A user sees the exact time by pointing at the text or by
    reaching the text with the Tab key.
    """
    # A time in the future is shown as "just now", because this machine's clock may be slow.
    just_now = now - moment < timedelta(minutes=1)
    return element(
        "time",
        texts.text("just_now")
        if just_now
        else locales.relative(moment, now, texts.language, texts.zone),
        datetime=time_text(moment),
        title=locales.exact(moment, texts.language, texts.zone),
        tabindex="0",
    )


def place_text(texts: Texts, device: Device) -> str:
    """Returns the city and the country of a device. The city or the country is left out if it is
    unknown.
    """
    country = locales.country(device.country_code, texts.language) if device.country_code else ""
    if device.city and country:
        return texts.text("place", city=device.city, country=country)
    return device.city or country


def _facts(texts: Texts, device: Device, now: datetime, *, marked: bool) -> Markup:
    alarm = alarm_of(device, now)
    told = None if alarm is None else phrase(texts, "alarm.here", when=when(texts, alarm.at, now))
    facts = (_made_of(texts, device), _activity(texts, device, now), _sign_in(texts, device, now))
    return element(
        "ul",
        [element("li", fact) for fact in facts if fact is not None],
        None if told is None else element("li", told, class_="alarm"),
        element("li", texts.text("mail.alarm"), class_="alarm") if marked else None,
        class_="facts",
    )


def _made_of(texts: Texts, device: Device) -> Node:
    """Returns the browser and the system of a device that has a name. The title of a device without
    a name already shows the browser and the system, so for this device the function returns the
    model. Returns None if the title already shows everything that is known.
    """
    browser, system = device.browser, device.operating_system
    if not name_of(device):
        return device.model if device.model and browser and system else None
    if browser and system:
        return texts.text("browser_on_system", browser=browser, system=system)
    return browser or system or None


def _activity(texts: Texts, device: Device, now: datetime) -> Node:
    active: Node = None
    if is_active_now(device, now):
        active = element("span", texts.text("active_now"), class_="active")
    elif device.last_seen_time is not None:
        active = phrase(texts, "active", when=when(texts, device.last_seen_time, now))
    address = device.last_client.ip_address
    parts = [
        active,
        element("bdi", place) if (place := place_text(texts, device)) else None,
        element("bdi", address, class_="address") if address else None,
    ]
    shown = [part for part in parts if part is not None]
    return [[" · " if number else None, part] for number, part in enumerate(shown)] or None


def _sign_in(texts: Texts, device: Device, now: datetime) -> Node:
    if device.sign_in_time is None or not device.signed_in:
        return None
    moment = when(texts, device.sign_in_time, now)
    if not device.auth_methods:
        return phrase(texts, "signed_in", when=moment)
    methods = tuple(
        texts.text(f"method.{method}") if texts.has(f"method.{method}") else method
        for method in device.auth_methods
    )
    told = element("bdi", locales.listed(methods, texts.language))
    return phrase(texts, "signed_in_with", when=moment, methods=told)


def _changes(page: DevicesPage, texts: Texts, device: Device, title: str) -> Markup:
    rename = element(
        "details",
        element(
            "summary", texts.text("rename"), aria_label=texts.text("rename_device", device=title)
        ),
        rename_form(
            page,
            texts,
            device.device_id,
            name_of(device),
            label=texts.text("name_of_device", device=title),
            save=f"{texts.text('save')}: {title}",
        ),
        class_="rename",
    )
    query = urlencode({"device": device.device_id})
    not_me = link(
        texts.text("not_me"),
        f"{page.path}/not-me?{query}",
        style="quiet",
        aria_label=texts.text("not_me_device", device=title),
    )
    return element(
        "div",
        rename if device.signed_in else None,
        None if device.current else not_me,
        class_="changes",
    )


def _sign_out(page: DevicesPage, texts: Texts, device: Device, title: str) -> Markup:
    return form(
        f"{page.path}/sign-out",
        hidden("device", device.device_id),
        button(texts.text("sign_out"), aria_label=texts.text("sign_out_device", device=title)),
        class_="sign-out",
    )
