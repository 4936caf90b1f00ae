"""HTML that can't be broken by what it shows: text becomes HTML here only, and is escaped. Nothing
else of this package writes a `<`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from session_authority_client.devices.catalogue import Texts

_VOID = frozenset({"input", "link", "meta"})


@dataclass(frozen=True, slots=True)
class Markup:
    """A piece of HTML. Only `element`, `joined` and `phrase` make one."""

    html: str


Node: TypeAlias = "Markup | str | Iterable[Node] | None"
"""What an element may hold: HTML, text, nothing, or several of these."""


def element(name: str, /, *children: Node, **attributes: str | bool | None) -> Markup:
    """An element. An attribute's name may end in `_` (`class_`), and `_` stands for `-`. An
    attribute that is True has no value; one that is False or None is left out.
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(children).html}</{name}>")


def joined(node: Node) -> Markup:
    """One piece of several: text is escaped, HTML stays."""
    if isinstance(node, Markup):
        return node
    if isinstance(node, str):
        return Markup(escape(node, quote=True))
    return Markup("" if node is None else "".join([joined(child).html for child in node]))


def phrase(texts: Texts, key: str, count: int | None = None, /, **places: Node) -> Markup:
    """A text of the catalogue whose places may hold HTML."""
    return joined(
        [
            places.get(part, f"{{{part}}}") if is_place else part
            for part, is_place in texts.parts(key, count)
        ]
    )


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value, quote=True)}"'
