"""Makes the icons of the page "My devices". Each icon is a line drawing in the color of the text.
The custom element has the same icons. The icons only illustrate the text, so they are hidden from
screen readers.
"""

from __future__ import annotations

from collections.abc import Mapping

from session_authority_client.devices.markup import Markup, element

PATHS: Mapping[str, str] = {
    "desktop": "M3 4h18v12H3zM8 20h8M12 16v4",
    "phone": "M7 2h10v20H7zM11 18h2",
    "tablet": "M4 3h16v18H4zM11 18h2",
    "tv": "M2 7h20v12H2zM8 22h8M8 3l4 4 4-4",
    "watch": "M7 7h10v10H7zM9 7V2h6v5M9 17v5h6v-5M12 10v2h2",
    "console": ("M6 7h12a4 4 0 0 1 4 4v6l-5-3H7l-5 3v-6a4 4 0 0 1 4-4zM8 9v4M6 11h4M16 11h.01"),
    "bot": "M5 8h14v11H5zM12 8V4M9 12v1M15 12v1M9 16h6",
    "other": "M4 4h16v16H4zM9 9a3 3 0 1 1 3 3v2M12 17h.01",
    "alarm": "M12 3 2 20h20zM12 10v4M12 17h.01",
}
"""The SVG path of each icon, in a square of 24 by 24 units."""


def icon(name: str) -> Markup:
    """Returns the icon with this name. The name is a kind of device, or "alarm"."""
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
