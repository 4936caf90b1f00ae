"""Device IDs: which texts are device IDs, and how tokens and the store name a device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.identifiers import DEVICE_KEY_BYTES, device_key, parse_uuid

SPELLED = "123e4567-e89b-42d3-a456-426614174000"


# The four spellings that libraries read: Java, Go, .NET and Python each write some of them.
SPELLINGS: dict[str, Callable[[UUID], str]] = {
    "canonical": str,
    "without dashes": lambda value: value.hex,
    "braces": lambda value: f"{{{value}}}",
    "URN": lambda value: value.urn,
}
BLANKS = st.text(" \t\r\n", max_size=3)


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(value=st.uuids(allow_nil=False), before=BLANKS, after=BLANKS)
def test_every_uuid_is_read_in_each_spelling(spelling: str, value: UUID, before: str, after: str):
    text = SPELLINGS[spelling](value)
    for cased in (text, text.upper(), text.title()):
        assert parse_uuid(f"{before}{cased}{after}") == value


def test_a_uuid_of_any_version_is_read():
    for version in "013478f":
        spelled = SPELLED[:14] + version + SPELLED[15:]
        assert parse_uuid(spelled) == UUID(spelled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nobody",
        *(spell(UUID(int=0)) for spell in SPELLINGS.values()),
        f"\x0b{SPELLED}",
        f"{SPELLED}\0",
        f"{SPELLED}\xa0",
        f"\u2003{SPELLED}",
        # Parts of spellings, and two of them at once.
        f"{{{SPELLED}",
        f"{SPELLED}}}",
        f"({SPELLED})",
        f"{{ {SPELLED} }}",
        f"{{{{{SPELLED}}}}}",
        f"{{{UUID(SPELLED).hex}}}",
        f"{{urn:uuid:{SPELLED}}}",
        f"urn:uuid:{{{SPELLED}}}",
        f"urn:uuid:{UUID(SPELLED).hex}",
        f"urn:uuid: {SPELLED}",
        f"uuid:{SPELLED}",
        f"urn:{SPELLED}",
        f"urn:uuid:urn:uuid:{SPELLED}",
        f'"{SPELLED}"',
        # Dashes in other places, which Python's own reader leaves out.
        SPELLED[1:] + SPELLED[0],
        SPELLED.replace("-", "", 1),
        SPELLED.replace("-", "--", 1),
        f"-{UUID(SPELLED).hex}",
        f"{UUID(SPELLED).hex}-",
        "123e-4567e89b42d3a456-4266-1417-4000",
        UUID(SPELLED).hex[:-1],
        UUID(SPELLED).hex + "0",
        f"0x{UUID(SPELLED).hex[2:]}",
        f"+{UUID(SPELLED).hex[1:]}",
        f"{UUID(SPELLED).hex[:8]}_{UUID(SPELLED).hex[9:]}",
        SPELLED[:-1],
        SPELLED + "0",
        SPELLED.replace("1", "g", 1),
        SPELLED.replace("-", "_"),
        SPELLED.replace("-", "–"),  # An en dash.
        SPELLED.replace("1", "١", 1),  # An Arabic digit, which int() would read.
        SPELLED.replace("e", "е", 1),
        "123e4567e-89b-42d3-a456-426614174000",
        SPELLED * 1000,
    ],
)
def test_no_other_text_is_a_device_id(text: str):
    assert parse_uuid(text) is None


@given(st.text("0123456789abcdefABCDEF-{} \turnid:", max_size=60))
def test_any_text_is_read_or_refused(text: str):
    parsed = parse_uuid(text)
    assert parsed is None or text.strip(" \t").lower() in [s(parsed) for s in SPELLINGS.values()]


def test_a_device_key_is_the_start_of_a_hash():
    assert device_key(UUID(SPELLED)).hex() == hashlib.sha256(UUID(SPELLED).bytes).hexdigest()[:32]
    assert device_key(UUID(SPELLED)).hex() == "8f7acbf51eecfbc78e7d7b7a6ff4f006"
    assert len(device_key(uuid4())) == DEVICE_KEY_BYTES == 16


def test_a_device_key_does_not_reveal_the_device_id():
    assert UUID(bytes=device_key(UUID(SPELLED))) != UUID(SPELLED)
    assert device_key(UUID(int=1)) != device_key(UUID(int=2))
