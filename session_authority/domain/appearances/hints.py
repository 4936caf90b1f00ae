"""Defines and cleans User-Agent Client Hints: facts that a browser sends about itself in addition
to its user agent. The service never trusts client hints.

Malformed hints are cleaned and cut, so that no request is refused because of its hints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from session_authority.domain.text import cleaned, cut

# Hints are stored with each device and each event, so hints are kept short. The longest text that
# an honest browser sends has about 30 characters. An honest browser sends three or four brands, and
# one or two form factors.
MAX_TEXT_CHARACTERS = 40
MAX_BRANDS = 4
MAX_FORM_FACTORS = 2
# The number of brands, and of form factors, that are read from a request. Later brands and form
# factors are ignored.
MAX_READ_ITEMS = 8
_LETTERS = re.compile(r"[^a-z]")


@dataclass(frozen=True, slots=True)
class Brand:
    """A name under which a browser is known, and a version. For example, the name is "Google
    Chrome" and the version is "148.0.7778.96".
    """

    name: str
    version: str = ""

    @property
    def is_made_up(self) -> bool:
        """True for a made-up brand such as "Not.A/Brand". Browsers send a made-up brand in addition
        to real brands, so that no site relies on a fixed list of brands.
        """
        return _LETTERS.sub("", self.name.lower()) in {"notabrand", "notanybrand"}


@dataclass(frozen=True, slots=True)
class ClientHints:
    """The client hints of a request. A hint that the browser did not send is empty, or None for
    `mobile`.
    """

    brands: tuple[Brand, ...] = ()
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    mobile: bool | None = None
    form_factors: tuple[str, ...] = ()

    def completed_by(self, older: ClientHints) -> ClientHints:
        """Returns these hints, with missing hints filled in from `older` hints of the same browser.
        Hints may be missing because browsers send some hints, such as the model, only after a
        server has requested them. If these hints and the older hints name different platforms,
        nothing is filled in.
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
    """Returns the hints in a form that can be stored and shown.

    Only the first 8 brands and the first 8 form factors are read. At most 4 brands and 2 form
    factors are kept. If there are more than 4 brands, made-up brands are dropped first. Each text
    of the result has at most 40 characters of ASCII, as all honest hints are ASCII. A text without
    visible characters counts as missing.
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
    """Returns the ASCII characters of the text in one line of at most 40 characters. Double quotes
    around the text are removed, because a caller may have left them there.
    """
    ascii_text = cleaned(text).encode("ascii", "ignore").decode()
    return cut(cleaned(ascii_text).strip(' "'), MAX_TEXT_CHARACTERS)
