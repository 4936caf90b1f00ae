"""Packs user agents, and the descriptions of clients that people see. A browser's user agent of 120
characters becomes about 10 bytes.

In a packed text, a byte up to 0x7F stands for one ASCII character. A byte above 0x7F stands for a
phrase that many texts share. Texts with characters outside ASCII can't be packed.
"""

from __future__ import annotations

import re
from functools import lru_cache

from session_authority.domain.fields import MAX_USER_AGENT_BYTES

# Stored records contain the numbers of phrases. So new phrases are added at the end, and no phrase
# is ever changed, moved or removed. There is room for 128 phrases.
PHRASES = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS ",
    "Mozilla/5.0 (iPad; CPU OS ",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:",
    "Mozilla/5.0 (X11; Linux x86_64; rv:",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:",
    "Mozilla/5.0 (Linux; Android ",
    "Mozilla/5.0 (Android ",
    "Mozilla/5.0 (Windows NT 10.0; ",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X ",
    "Mozilla/5.0 (X11; ",
    "Mozilla/5.0 (",
    " like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    ") AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    ") AppleWebKit/537.36 (KHTML, like Gecko)",
    ") AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/",
    ".0.0.0 Mobile Safari/537.36",
    ".0.0.0 Safari/537.36",
    " Mobile Safari/537.36",
    " Safari/537.36",
    " Mobile/15E148 Safari/604.1",
    " Mobile/15E148",
    " Safari/605.1.15",
    " Safari/604.1",
    ".0) Gecko/20100101 Firefox/",
    ".0) Gecko/",
    "; Mobile; rv:",
    " Version/",
    " Firefox/",
    " Chrome/",
    " Mobile/",
    " Safari/",
    " CriOS/",
    " FxiOS/",
    " EdgiOS/",
    " EdgA/",
    " Edg/",
    " OPR/",
    " GSA/",
    " SamsungBrowser/",
    " YaBrowser/",
    " Vivaldi/",
    " DuckDuckGo/",
    " UCBrowser/",
    " MiuiBrowser/",
    " HuaweiBrowser/",
    " Electron/",
    " Instagram ",
    " Build/",
    "[FBAN/FBIOS;FBAV/",
    "[FB_IAB/FB4A;FBAV/",
    "Dalvik/2.1.0 (Linux; U; Android ",
    " CFNetwork/",
    " Darwin/",
    "okhttp/",
    "(compatible; ",
    "iPhone",
    "iPad",
    "Windows NT ",
    "; Win64; x64",
    " (iOS ",
    ".0.0.0",
    ".0",
    # Phrases of the descriptions of clients that people see.
    "\ndesktop\n",
    "\nphone\n",
    "\ntablet\n",
    "\nbot\n",
    "\nunknown\n",
    "Windows\n",
    "Windows 10\n",
    "Windows 11\n",
    "macOS\n",
    "Linux\n",
    "Ubuntu\n",
    "ChromeOS\n",
    "Android\n",
    "Android ",
    "iOS ",
    "iPadOS ",
    "Chrome ",
    "Edge ",
    "Firefox ",
    "Safari ",
    "Opera ",
    "Samsung Internet ",
    " on ",
    "AppleWebKit/",
    " (KHTML, like Gecko)",
    "Linux x86_64",
    "Linux",
    "Android",
    "Pixel ",
    "https://",
)
_FIRST = 0x80
# How many texts each cache keeps. Most users have one of a few hundred user agents. A cache entry
# occupies at most 2 KiB, because the cached functions are not called for long texts.
REMEMBERED = 1024
MAX_PACKED_BYTES = MAX_USER_AGENT_BYTES
_TEXTS = (*map(chr, range(_FIRST)), *PHRASES)
_NUMBERS = {phrase: chr(_FIRST + number) for number, phrase in enumerate(PHRASES)}
# The longest phrase comes first, because a regular expression uses the first alternative that
# matches.
_ANY = re.compile("|".join(map(re.escape, sorted(PHRASES, key=len, reverse=True))))


def pack(text: str) -> bytes | None:
    """Returns the packed text. Returns None if the text has characters outside ASCII, or more than
    `MAX_USER_AGENT_BYTES` characters.
    """
    return _pack(text) if len(text) <= MAX_USER_AGENT_BYTES else None


@lru_cache(REMEMBERED)
def _pack(text: str) -> bytes | None:
    if not text.isascii():
        return None
    return _ANY.sub(lambda found: _NUMBERS[found[0]], text).encode("latin-1")


def unpack(packed: bytes) -> str | None:
    """Returns the unpacked text, cut to `MAX_USER_AGENT_BYTES` characters. Returns None if `packed`
    has the number of a phrase that only a later version of the service knows, or has more than
    `MAX_PACKED_BYTES` bytes.
    """
    return _unpack(packed) if len(packed) <= MAX_PACKED_BYTES else None


@lru_cache(REMEMBERED)
def _unpack(packed: bytes) -> str | None:
    try:
        return "".join([_TEXTS[byte] for byte in packed])[:MAX_USER_AGENT_BYTES]
    except IndexError:
        return None
