"""User-Agent Client Hints: what a browser tells of itself beside its user agent. Never trusted.

Odd hints are cleaned and cut, and refuse nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from session_authority.domain.text import cleaned, cut

# Hints are kept with each device and each event, so they are kept short. The longest text of an
# honest browser has 30 characters or so; it sends three or four brands, and a form factor or two.
MAX_TEXT_CHARACTERS = 40
MAX_BRANDS = 4
MAX_FORM_FACTORS = 2
# More of a list is not looked at.
MAX_READ_ITEMS = 8
_LETTERS = re.compile(r"[^a-z]")


@dataclass(frozen=True, slots=True)
class Brand:
    """A name under which a browser is known, and its version: "Google Chrome", "148.0.7778.96"."""

    name: str
    version: str = ""

    @property
    def is_made_up(self) -> bool:
        """True for the brand that browsers add so that nobody relies on a list: "Not.A/Brand"."""
        return _LETTERS.sub("", self.name.lower()) in {"notabrand", "notanybrand"}


@dataclass(frozen=True, slots=True)
class ClientHints:
    """The hints. Empty, or None for `mobile`, means that the browser doesn't tell."""

    brands: tuple[Brand, ...] = ()
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    mobile: bool | None = None
    form_factors: tuple[str, ...] = ()

    def completed_by(self, older: ClientHints) -> ClientHints:
        """These hints, with what `older` ones of the same browser know of the device. Browsers send
        the model and the versions only after they were asked for them.
        """
        if self.platform and older.platform and self.platform != older.platform:
            return self
        return replace(
            self,
            brands=self.brands or older.brands,
            platform=self.platform or older.platform,
            platform_version=self.platform_version or older.platform_version,
            model=self.model or older.model,
            mobile=older.mobile if self.mobile is None else self.mobile,
            form_factors=self.form_factors or older.form_factors,
        )


NO_HINTS = ClientHints()


def clean_hints(
    *,
    brands: Sequence[Brand] = (),
    platform: str = "",
    platform_version: str = "",
    model: str = "",
    mobile: bool | None = None,
    form_factors: Sequence[str] = (),
) -> ClientHints:
    """The hints as they can be stored and shown: at most 4 brands and 2 form factors, and texts of
    at most 40 characters of ASCII, as all hints are. A text without anything to see is none. Of
    more brands, those that browsers make up go first.
    """
    read = brands[:MAX_READ_ITEMS]
    kept = [Brand(_clean(brand.name), _clean(brand.version)) for brand in read]
    kept = [brand for brand in kept if brand.name]
    if len(kept) > MAX_BRANDS:
        kept = [brand for brand in kept if not brand.is_made_up]
    return ClientHints(
        brands=tuple(kept[:MAX_BRANDS]),
        platform=_clean(platform),
        platform_version=_clean(platform_version),
        model=_clean(model),
        mobile=mobile,
        form_factors=tuple(
            list(filter(None, map(_clean, form_factors[:MAX_READ_ITEMS])))[:MAX_FORM_FACTORS]
        ),
    )


def _clean(text: str) -> str:
    """The text in one line, without the quotes that a caller may have left around it."""
    ascii_text = cleaned(text).encode("ascii", "ignore").decode()
    return cut(cleaned(ascii_text).strip(' "'), MAX_TEXT_CHARACTERS)
