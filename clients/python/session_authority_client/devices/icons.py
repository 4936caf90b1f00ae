"""The icons of the page, drawn in lines of the colour of the text: those of the custom element.
They say nothing that the text does not say, so they are hidden from screen readers.
"""

from __future__ import annotations

from collections.abc import Mapping

from session_authority_client.devices.markup import Markup, element

PATHS: Mapping[str, str] = {
    "desktop": "M3 4h18v12H3zM8 20h8M12 16v4",
    "phone": "M7 2h10v20H7zM11 18.5h2",
    "tablet": "M4 3h16v18H4zM11 18h2",
    "tv": "M2 7h20v12H2zM8 22h8M8 3l4 4 4-4",
    "watch": "M7 7h10v10H7zM9 7l.5-5h5l.5 5M9 17l.5 5h5l.5-5M12 10v2.5l1.5 1",
    "console": (
        "M6 7h12a4 4 0 0 1 4 4v6l-5-3H7l-5 3v-6a4 4 0 0 1 4-4zM7.5 9v3M6 10.5h3M16 10.5h.01"
    ),
    "bot": "M5 8h14v11H5zM12 8V4M9 12v1.5M15 12v1.5M9.5 16.5h5",
    "other": "M4 4h16v16H4zM9.5 9.7a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.5h.01",
    "alarm": "M12 3 2 20h20zM12 10v4.5M12 17.2h.01",
}
"""What each icon draws, in a square of 24 units."""


def icon(name: str) -> Markup:
    """An icon by its name: a kind of device, or "alarm"."""
    return _ICONS[name]


_ICONS = {
    name: element(
        "svg",
        element("path", d=path),
        class_="icon",
        viewBox="0 0 24 24",
        aria_hidden="true",
        focusable="false",
    )
    for name, path in PATHS.items()
}
