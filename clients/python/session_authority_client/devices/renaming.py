"""Makes the form with which a user renames a device. The form is in the device's card. If the
device could not be renamed, a screen may show the form again, with the name that the user typed.
"""

from __future__ import annotations

from session_authority_client._shared.responses import Response
from session_authority_client.devices.answers import STATUS, Header
from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.layout import button, form, hidden, link, screen
from session_authority_client.devices.listing import MAX_NAME_LENGTH
from session_authority_client.devices.markup import Markup, element
from session_authority_client.devices.settings import DevicesPage

# After an error with one of these codes, the form is shown again, because another name or another
# try may succeed.
_MENDABLE = frozenset({"bad_request", "name_too_long", "too_many_requests", "unavailable"})


def rename_form(
    page: DevicesPage, texts: Texts, device_id: str, name: str, *, label: str, save: str
) -> Markup:
    """Makes the rename form in a device's card.

    Args:
        page: The settings of the page.
        texts: The texts in the reader's language.
        device_id: The ID of the device.
        name: The name that the user or the app gave to the device, or empty.
        label: The label of the name's field.
        save: The button's name for screen readers.
    """
    field, hint = f"name-{device_id}", f"hint-{device_id}"
    return form(
        f"{page.path}/rename",
        hidden("device", device_id),
        element("label", label, for_=field),
        _field(field, name, hint),
        element("small", texts.text("name.hint"), id=hint),
        button(texts.text("save"), aria_label=save),
    )


def can_be_mended(code: str) -> bool:
    """Returns True if the form is shown again after an error with this code."""
    return code in _MENDABLE


def refused_screen(
    page: DevicesPage,
    texts: Texts,
    device_id: str,
    name: str,
    code: str,
    headers: tuple[Header, ...],
) -> Response:
    """Makes the screen that says why a device was not renamed, above the form with the name that
    the user typed.
    """
    return screen(
        page,
        texts,
        texts.text("rename"),
        element("h1", texts.text("rename")),
        element("p", texts.text(f"error.{code}"), role="alert", id="problem"),
        element(
            "div",
            form(
                f"{page.path}/rename",
                hidden("device", device_id),
                element("label", texts.text("name"), for_="name"),
                _field("name", name, "problem hint", aria_invalid="true"),
                element("small", texts.text("name.hint"), id="hint"),
                button(texts.text("save")),
            ),
            class_="rename",
        ),
        element("div", link(texts.text("cancel"), page.path), class_="answers"),
        status=STATUS[code],
        headers=headers,
    )


def _field(field: str, name: str, described_by: str, **attributes: str) -> Markup:
    return element(
        "input",
        id=field,
        name="name",
        value=name,
        maxlength=str(MAX_NAME_LENGTH),
        autocomplete="off",
        aria_describedby=described_by,
        **attributes,
    )
