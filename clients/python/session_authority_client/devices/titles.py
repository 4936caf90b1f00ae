"""The titles of devices, so that no two devices of a list have the same title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.listing import KINDS, name_of
from session_authority_client.types import Device


def titles_of(devices: Sequence[Device], texts: Texts) -> Mapping[str, str]:
    """The titles of devices, by their IDs. If two devices would have the same title, the second one
    gets a number: "Chrome on Windows (2)".
    """
    taken: set[str] = set()
    last: dict[str, int] = {}  # without it, 1,000 devices of one title cost half a million tries
    titles: dict[str, str] = {}
    for device in devices:
        plain = title = title_of(device, texts)
        number = last.get(plain, 1)
        while title in taken:
            number += 1
            title = texts.text("numbered", device=plain, number=str(number))
        last[plain] = number
        taken.add(title)
        titles[device.device_id] = title
    return titles


def title_of(device: Device, texts: Texts) -> str:
    """The title of a device: its name, or its browser and system, or its kind."""
    if name := name_of(device):
        return name
    browser, system = device.browser, device.operating_system
    if browser and system:
        return texts.text("browser_on_system", browser=browser, system=system)
    kind = texts.text(f"kind.{KINDS[device.form_factor]}")
    return browser or (system and device.model) or system or device.model or kind
