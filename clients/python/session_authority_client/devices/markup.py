"""Makes HTML, and escapes every text in it, so that no text can add markup. Only this module turns
text into HTML, and no other module of this package writes a tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import TypeAlias

from session_authority_client.devices.catalogue import Texts

_VOID = frozenset({"input", "link", "meta"})
_UNSAFE = re.compile("[&<>\"']")


class Markup(str):
    """A piece of HTML. Only `element`, `joined` and `phrase` make a Markup. If other code makes a
    text from a Markup, for example with `+`, the result is plain text, which `element` escapes.
    """

    __slots__ = ()


Node: TypeAlias = "Markup | str | Iterable[Node] | None"
"""The contents of an element: HTML, text, None for nothing, or several of these three."""


def element(name: str, /, *children: Node, **attributes: str | bool | None) -> Markup:
    """Makes an HTML element. A `_` at the end of an attribute's name is left out (`class_`). A `_`
    inside the name becomes `-`. An attribute that is True has no value. An attribute that is False
    or None is left out.

    The elements `input`, `link` and `meta` have no end tag, and their `children` are left out. All
    other elements get an end tag, so this function can't make the other void elements of HTML, such
    as `br`.
    """
    shown = "".join([_attribute(key, value) for key, value in attributes.items()])
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{_html(children)}</{name}>")


def joined(node: Node) -> Markup:
    """Joins several pieces to one piece of HTML. Text is escaped, and HTML stays as it is."""
    return Markup(_html(node))


def phrase(texts: Texts, key: str, count: int | None = None, /, **places: Node) -> Markup:
    """Returns the catalogue's text with this key as HTML. `places` are the values of the text's
    placeholders, and may be HTML.
    """
    return joined(
        [
            places.get(part, f"{{{part}}}") if is_place else part
            for part, is_place in texts.parts(key, count)
        ]
    )


def _html(node: Node) -> str:
    if isinstance(node, str):
        return node if isinstance(node, Markup) else _escaped(node)
    return "" if node is None else "".join([_html(child) for child in node])


def _escaped(text: str) -> str:
    # Most texts are short and have nothing to escape. For such a text, this search takes less time
    # than `escape`.
    return text if _UNSAFE.search(text) is None else escape(text, quote=True)


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = _attribute_name(key)
    return f" {name}" if value is True else f' {name}="{_escaped(value)}"'


@cache
def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
