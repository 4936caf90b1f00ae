"""Draws bars as SVG, once for light pages and once for dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _LABELS, _VALUES, _ROW, _TOP = 760, 270, 90, 26, 44


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with a label. `low` and `high` are its spread. The service's own bars stand out."""

    label: str
    value: float
    low: float
    high: float
    ours: bool


@dataclass(frozen=True, slots=True)
class _Palette:
    text: str
    ours: str
    other: str
    spread: str


_PALETTES = {
    "light": _Palette("#1f2328", "#0969da", "#8c959f", "#1f2328"),
    "dark": _Palette("#e6edf3", "#4493f8", "#6e7681", "#e6edf3"),
}


def write_bars(folder: Path, name: str, title: str, unit: str, bars: Sequence[Bar]) -> str:
    """Writes both files. Returns Markdown that shows the file for the reader's colour scheme."""
    for mode, palette in _PALETTES.items():
        drawn = _drawn(title, unit, bars, palette)
        (folder / f"{name}-{mode}.svg").write_text(drawn)
    return (
        f'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="{name}-dark.svg">\n'
        f'<img alt="{escape(title)}" src="{name}-light.svg">\n</picture>\n'
    )


def _drawn(title: str, unit: str, bars: Sequence[Bar], palette: _Palette) -> str:
    height = _TOP + _ROW * len(bars) + 8
    scale = (_WIDTH - _LABELS - _VALUES) / max(bar.high for bar in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        f' width="{_WIDTH}" font-family="system-ui, sans-serif" font-size="13"',
        f' fill="{palette.text}">',
        f'<text x="8" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        y = _TOP + _ROW * number
        color = palette.ours if bar.ours else palette.other
        low, high = (_LABELS + spread * scale for spread in (bar.low, bar.high))
        lines += [
            f'<text x="{_LABELS - 8}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{_LABELS}" y="{y + 3}" height="16" rx="2" fill="{color}"',
            f' width="{max(bar.value * scale, 1):.1f}"/>',
            f'<path d="M{low:.1f} {y + 11}H{high:.1f}" stroke="{palette.spread}"/>',
            f'<text x="{high + 6:.1f}" y="{y + 15}">{bar.value:,.0f} {escape(unit)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
