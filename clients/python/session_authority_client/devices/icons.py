"""The icons of the page, drawn in lines of the colour of the text. They say nothing that the text
does not say, so they are hidden from screen readers.
"""

from __future__ import annotations

from collections.abc import Mapping

from session_authority_client.devices.markup import Markup, element

_PATHS: Mapping[str, tuple[str, ...]] = {
    "desktop": ("M5 5h14v10H5z", "M2 19h20"),
    "phone": ("M8 3h8a1 1 0 0 1 1 1v16a1 1 0 0 1-1 1H8a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1z", "M11 18h2"),
    "tablet": (
        "M6 3h12a1 1 0 0 1 1 1v16a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1z",
        "M11 18h2",
    ),
    "tv": ("M3 6h18v12H3z", "M8 21h8", "M9 2l3 4 3-4"),
    "watch": ("M8 8h8v8H8z", "M9 8l.6-5h4.8l.6 5M9 16l.6 5h4.8l.6-5", "M12 10.5V12l1 1"),
    "console": (
        "M7 8h10a4 4 0 0 1 4 4v3a3 3 0 0 1-5.4 1.8L15 16H9l-.6.8A3 3 0 0 1 3 15v-3a4 4 0 0 1 4-4z",
        "M8 10.5v3M6.5 12h3M15.5 12h.01M17.5 12h.01",
    ),
    "bot": ("M5 9h14v10H5z", "M12 9V5M12 5h.01", "M9.5 13h.01M14.5 13h.01M9.5 16h5"),
    "other": (
        "M4 5h11v9H4z",
        "M2 18h11",
        "M17 9h3a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-3a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1z",
    ),
    "alarm": ("M12 4l9 16H3z", "M12 10v4M12 17h.01"),
    "done": ("M5 12.5l4.5 4.5L19 7.5",),
}


def icon(name: str) -> Markup:
    """An icon by its name: a kind of device, "alarm" or "done"."""
    return _ICONS[name]


_ICONS = {
    name: element(
        "svg",
        [element("path", d=line) for line in lines],
        class_="icon",
        viewBox="0 0 24 24",
        aria_hidden="true",
        focusable="false",
    )
    for name, lines in _PATHS.items()
}
