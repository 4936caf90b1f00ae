"""Makes the titles of the devices in a list. No two devices of a list have the same title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.listing import KINDS, name_of
from session_authority_client.types import Device


def titles_of(devices: Sequence[Device], texts: Texts) -> Mapping[str, str]:
    """Returns the titles of devices, by the devices' IDs. If two devices would have the same title,
    the title of the second device gets a number: "Chrome on Windows (2)".
    """
    taken: set[str] = set()
    last: dict[str, int] = {}  # without `last`, 1,000 equal titles would cost 500,000 tries
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
    """Returns the title of a device: its name or, if it has no name, a text made from its browser,
    system and model. The title of a device without a name is the device's kind if browser, system
    and model are unknown.
    """
    if name := name_of(device):
        return name
    browser, system = device.browser, device.operating_system
    if browser and system:
        return texts.text("browser_on_system", browser=browser, system=system)
    kind = texts.text(f"kind.{KINDS[device.form_factor]}")
    return browser or (system and device.model) or system or device.model or kind
