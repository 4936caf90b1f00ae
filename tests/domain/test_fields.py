"""The rule of every field: its boundary values, the values that break it, and the message for the
caller.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.clients import Client
from session_authority.domain.errors import FieldViolation, InvalidRequest
from session_authority.domain.fields import (
    DEFAULT_PAGE_SIZE,
    MAX_APP_VERSION_CHARACTERS,
    MAX_AUTH_METHODS,
    MAX_BATCH,
    MAX_CLAIMS_BYTES,
    MAX_DISPLAY_NAME_CHARACTERS,
    MAX_PAGE_SIZE,
    MAX_REASON_CHARACTERS,
    MAX_USER_AGENT_BYTES,
    MAX_USER_ID_CHARACTERS,
    MIN_SESSION_TTL,
    RESERVED_CLAIMS,
    FieldChecks,
    cut_user_agent,
)

SPELLED = "123e4567-e89b-42d3-a456-426614174000"
US = timedelta(microseconds=1)
MONTH = timedelta(days=30)
UNPRINTABLE = {
    "a null": "a\0b",
    "a tab": "a\tb",
    "a line feed": "a\nb",
    "an escape": "a\x1b[31mb",
    "a delete": "a\x7fb",
    "a C1 control": "a\x9bb",
    "a line separator": "a\u2028b",
    "a right-to-left override": "a\u202eb",
    "a byte order mark": "a\ufeffb",
    "a soft hyphen": "a\xadb",
    "a private character": "a\ue000b",
    "an unassigned character": "a\u0378b",
    "half of a surrogate pair": "a\ud83db",
}


def told(check: Callable[[FieldChecks], Any]) -> list[tuple[str, str]]:
    """The messages for a caller after a check: none if the check passed."""
    checks = FieldChecks()
    check(checks)
    try:
        checks.done()
    except InvalidRequest as refusal:
        return [(v.field, v.description) for v in refusal.violations]
    return []


def passed(check: Callable[[FieldChecks], Any]) -> Any:
    """The result of a check that must pass."""
    checks = FieldChecks()
    value = check(checks)
    checks.done()
    return value


SHOWN = "must have no control or other unprintable characters"

# A user ID.


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "a" * MAX_USER_ID_CHARACTERS,
        "sami@example.org",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "用户",
        "😀",
        "é",
        "CN=First Last,OU=People,O=Example\xa0Ltd,C=DE",
        "山田\u3000太郎",
        "می\u200cخواهم",
        "❤\ufe0f sami",
        "https://idp.example.org/saml!https://sp.example.org!3f7b3dcf",
        "<\"'&;\\>",
    ],
)
def test_a_user_id_within_the_rule_is_accepted(value: str):
    assert passed(lambda c: c.user_id(value)) == value


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "must not be empty"),
        ("a" * (MAX_USER_ID_CHARACTERS + 1), "must have at most 255 characters"),
        ("😀" * (MAX_USER_ID_CHARACTERS + 1), "must have at most 255 characters"),
        *(
            (
                value,
                f"{SHOWN}, and no white space at the ends",
            )
            for value in (
                " ",
                " a",
                "a ",
                "a\xa0",
                "\u3000a",
                "\u200c",
                "a\u200d",
                "a\tb",
                "a\u200bb",
                "a\u2028b",
                "sami\ufe0f",
                "sami\u034f",
                "\u3164",
                "sami\u3164",
                "\u2800",
                "\u0301",
                *UNPRINTABLE.values(),
            )
        ),
    ],
)
def test_a_bad_user_id_is_refused(value: str, rule: str):
    assert told(lambda c: c.user_id(value)) == [("user_id", rule)]
    assert told(lambda c: c.user_id(value, "user_ids[3]")) == [("user_ids[3]", rule)]


def test_the_length_of_a_user_id_is_counted_in_characters():
    assert passed(lambda c: c.user_id("😀" * MAX_USER_ID_CHARACTERS))


# A required device ID, and an optional one.


def test_a_device_id_is_accepted_in_each_spelling():
    assert passed(lambda c: c.device_id(SPELLED)) == UUID(SPELLED)
    checks = FieldChecks()
    for spelled in (SPELLED.upper(), f" {{{SPELLED}}}\t", UUID(SPELLED).hex, UUID(SPELLED).urn):
        assert checks.device_id(spelled) == UUID(SPELLED)
        assert checks.optional_device_id(spelled, "current_device_id") == UUID(SPELLED)
        assert checks.request_id(spelled) == UUID(SPELLED)
    checks.done()
    assert passed(lambda c: c.optional_device_id("", "current_device_id")) is None


@pytest.mark.parametrize(
    "value", [" ", "nobody", SPELLED.replace("-", "", 1), SPELLED + "\0", str(UUID(int=0))]
)
def test_a_bad_device_id_is_refused(value: str):
    rule = "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000"
    assert told(lambda c: c.device_id(value)) == [("device_id", rule)]
    assert told(lambda c: c.optional_device_id(value, "except_device_id")) == [
        ("except_device_id", rule)
    ]
    assert told(lambda c: c.device_id("")) == [("device_id", rule)]


# The client.


def client(**fields: str) -> Callable[[FieldChecks], Client]:
    values = {"ip_address": "", "user_agent": "", "display_name": "", "app_version": ""} | fields
    return lambda checks: checks.client(**values)


def test_a_client_may_be_unknown():
    assert passed(client()) == Client()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("0.0.0.0", "0.0.0.0"),
        ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
        ("::1", "::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("203.0.113.7:443", "203.0.113.7"),
        ("203.0.113.7:", "203.0.113.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        (" 203.0.113.7\n", "203.0.113.7"),
        ("203.0.113.7, 198.51.100.1", "203.0.113.7"),
        ("2001:db8::7,203.0.113.7", "2001:db8::7"),
        ("for=203.0.113.7;proto=https;by=198.51.100.1", "203.0.113.7"),
        ('proto=https;For="[2001:db8::7]:4711", for=198.51.100.1', "2001:db8::7"),
        ("ipv4:203.0.113.7:443", "203.0.113.7"),
        ("ipv6:%5B2001:db8::7%5D:443", "2001:db8::7"),
        ("/203.0.113.7:443", "203.0.113.7"),
        *(
            (value, "")
            for value in (
                "unknown",
                "_hidden",
                'for="_gazonk"',
                "for=unknown",
                "203.0.113",
                "203.0.113.256",
                "203.0.113.07",
                "203.0.113.7/32",
                "localhost",
                "3405803783",
                "٢٠٣.0.113.7",
                "203.0.113.7\0",
                "\ud83d",
                ":" * 10_000,
                "," * 10_000,
            )
        ),
    ],
)
def test_an_address_is_kept_in_its_usual_form_or_not_at_all(value: str, kept: str):
    assert passed(client(ip_address=value)).ip_address == kept


@given(st.text(st.characters() | st.sampled_from('0123456789.:[],%/="'), max_size=60))
def test_every_address_can_be_stored(value: str):
    kept = passed(client(ip_address=value)).ip_address
    assert passed(client(ip_address=kept)).ip_address == kept


ENGLAND, TEXAS = (
    "🏴" + "".join(chr(0xE0000 + ord(c)) for c in part) + "\U000e007f" for part in ("gbeng", "ustx")
)
CLEANED = {
    "a no-break space": ("Ada’s\u00a0Apple Watch", "Ada’s Apple Watch"),
    "an ideographic space": ("艾达\u3000手机", "艾达 手机"),
    "many spaces": ("  Ada's \t\r\n phone\u2028", "Ada's phone"),
    "a Hangul filler": ("\u3164Ada\u115f", "Ada"),
    "direction marks": ("\u200eAda\u200f\u061c", "Ada"),
    "an override": ("\u202eAda\u202c\u2066\u2069", "Ada"),
    "zero width": ("A\u200bd\u2060a\ufeff", "Ada"),
    "a soft hyphen": ("A\u00adda", "Ada"),
    "private use": ("Ada\uf8ff", "Ada"),
    "unassigned": ("Ada\u0378", "Ada"),
    "controls": ("A\0d\x1ba\x9b", "Ada"),
    "half of a surrogate pair": ("Ada\ud83d", "Ada"),
    "a joiner that joins nothing": ("A\u200dda\u200c", "Ada"),
    "a joiner next to spaces": (" \u200d Ada \u200c phone", "Ada phone"),
    "two joiners at the end": ("😀\u200c\u200d", "😀"),
    "a Persian word": ("می\u200cخواهم", "می\u200cخواهم"),
    "an Indic letter": ("क्\u200dष", "क्\u200dष"),
    "a joined emoji": ("👩🏽\u200d💻", "👩🏽\u200d💻"),
    "the flag of England": (ENGLAND, ENGLAND),
    "flags next to each other": (f"A{ENGLAND}{TEXAS}\u200b 🇸🇪", f"A{ENGLAND}{TEXAS} 🇸🇪"),
    "letters of a flag without it": ("a" + ENGLAND[1:], "a"),
    "a hidden text after a flag": ("🏴" + "".join(chr(0xE0000 + ord(c)) for c in "hi there"), "🏴"),
    "a flag without an end": (ENGLAND[:-1], "🏴"),
    "an emoji with a selector": ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"),
    "nothing that can be seen": ("\u200b\u00ad\u0301", ""),
}


@pytest.mark.parametrize(("value", "kept"), CLEANED.values(), ids=CLEANED)
def test_the_name_that_a_client_gives_is_cleaned(value: str, kept: str):
    assert passed(client(display_name=value)).display_name == kept
    assert passed(client(app_version=value)).app_version == kept
    assert passed(client(user_agent=value)).user_agent == kept
    if kept:
        assert passed(lambda c: c.display_name(value)) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a" * 101, "a" * 100),
        ("a" * 99 + " b", "a" * 99),
        ("a" * 99 + "e\u0301", "a" * 99),
        ("a" * 98 + "👩\u200d💻", "a" * 98),
        ("a" * 94 + ENGLAND, "a" * 94),
        ("a" * 93 + ENGLAND, "a" * 93 + ENGLAND),
        ("a" * 99 + "👍🏽", "a" * 99),
        ("a" * 99 + "🇸🇪", "a" * 99),
        ("🇸🇪" * 51, "🇸🇪" * 50),
        ("a" * 99 + "❤\ufe0f", "a" * 99),
        ("a" * 98 + "क्ष", "a" * 98),
        ("a" + "\u0301" * 5000, "a" + "\u0301" * 99),
    ],
)
def test_a_long_name_is_not_cut_between_characters_that_are_shown_as_one(value: str, kept: str):
    """Only a sign that is longer than the limit is cut."""
    assert passed(client(display_name=value)).display_name == kept


@given(st.text(st.characters() | st.sampled_from("\u200c\u200d\u0301\u094d🇸👩🏽 "), max_size=300))
def test_every_name_can_be_stored(value: str):
    kept = passed(client(display_name=value)).display_name
    assert len(kept) <= MAX_DISPLAY_NAME_CHARACTERS
    assert kept.translate(dict.fromkeys((0x200C, 0x200D))).isprintable()
    assert passed(client(display_name=kept)).display_name == kept


@pytest.mark.parametrize("value", ["\u200b", "\u00ad\u202e", "\ue000", "\0", "\u0301"])
def test_the_name_that_a_user_gives_must_be_visible(value: str):
    rule = "must have a character that can be seen"
    assert told(lambda c: c.display_name(value)) == [("display_name", rule)]


def test_the_name_that_a_user_gives_is_kept():
    limit = MAX_DISPLAY_NAME_CHARACTERS
    for value in ("", "a", "Sami's phone", "Сами 📱", "a" * limit, "😀" * limit):
        assert passed(lambda c: c.display_name(value)) == value  # noqa: B023
    assert passed(lambda c: c.display_name("  Sami's phone\n")) == "Sami's phone"
    assert passed(lambda c: c.display_name(" " + "a" * limit + " ")) == "a" * limit
    assert passed(lambda c: c.display_name("   ")) == ""
    assert told(lambda c: c.display_name("a" * (limit + 1))) == [
        ("display_name", "must have at most 100 characters")
    ]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("", ""),
        ("password_changed", "password_changed"),
        (" Sami\u2019s\xa0reason\n", "Sami\u2019s reason"),
        ("a" * 200, "a" * MAX_REASON_CHARACTERS),
        ("\u202e\0", ""),
    ],
)
def test_a_reason_is_cleaned_and_cut_but_never_refused(value: str, kept: str):
    assert passed(lambda c: c.reason(value)) == kept


def test_the_limits_are_those_of_the_contract():
    assert (
        MAX_USER_ID_CHARACTERS,
        MAX_DISPLAY_NAME_CHARACTERS,
        MAX_REASON_CHARACTERS,
        MAX_APP_VERSION_CHARACTERS,
    ) == (255, 100, 128, 64)
    assert (MAX_USER_AGENT_BYTES, MAX_CLAIMS_BYTES, MAX_AUTH_METHODS) == (512, 1024, 8)
    assert (MAX_BATCH, MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE) == (500, 1000, 50)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a" * 512, "a" * 512),
        ("a" * 513, "a" * 512),
        ("a" * 511 + "é", "a" * 511),
        ("a" * 510 + "é", "a" * 510 + "é"),
        ("a" * 509 + "😀", "a" * 509),
        ("a" * 508 + "😀", "a" * 508 + "😀"),
        ("😀" * 10_000, "😀" * 128),
        ("curl\r\n/8\0.5", "curl /8.5"),
        ("\0" * 600 + "curl", "curl"),
        ("\ud83d" * 600, ""),
        ("", ""),
    ],
)
def test_a_user_agent_is_cut_but_never_refused(value: str, kept: str):
    assert cut_user_agent(value) == kept
    assert passed(client(user_agent=value)).user_agent == kept


@given(st.text(st.characters(), max_size=700))
def test_every_user_agent_can_be_stored(value: str):
    cut = cut_user_agent(value)
    assert len(cut.encode()) <= MAX_USER_AGENT_BYTES
    assert cut.translate(dict.fromkeys((0x200C, 0x200D))).isprintable()
    assert cut_user_agent(cut) == cut


# Claims.

URI_RULE = "letters, digits or characters of a URI, like '_', '-', '.', ':', '/' or '#'"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"email": ""},
        {"n" * 128: "a"},
        {"https://example.org/claims/tenant?v=1#id~(a)": "a"},
        {"https://example.org/a-b_c.d": "Сами 📱\n"},
        {"Sub": "a", "SCOPE": "b", "subs": "c"},
        {f"n{n}": "a" for n in range(50)},
    ],
)
def test_claims_within_the_rule_are_accepted(value: dict[str, str]):
    assert passed(lambda c: c.claims(value)) == value


@pytest.mark.parametrize("name", sorted(RESERVED_CLAIMS))
def test_a_reserved_claim_is_refused(name: str):
    assert told(lambda c: c.claims({name: "a"})) == [(f"claims.{name}", "is a reserved name")]


def test_claims_of_the_token_itself_and_claims_that_permit_are_reserved():
    own = "iss aud sub dk sid gen jti iat exp auth_time amr typ nbf"
    permissions = "scope roles groups entitlements permissions"
    assert set(f"{own} {permissions}".split()) <= RESERVED_CLAIMS


@pytest.mark.parametrize("name", ["", "n" * 129, "a b", "a\n", "é", 'a"', "a|b", "a\0", "١"])
def test_a_bad_claim_name_is_refused(name: str):
    rule = f"names must be 1 to 128 {URI_RULE}"
    assert told(lambda c: c.claims({name: "a"})) == [("claims", rule)]


def test_many_bad_claim_names_are_one_message():
    """Messages travel in trailers, and trailers have a limit."""
    assert len(told(lambda c: c.claims({f"{n} ": "" for n in range(100)}))) == 1


@pytest.mark.parametrize(
    ("letter", "size"),
    [("a", 1), ('"', 2), ("\\", 2), ("\n", 2), ("é", 2), ("😀", 4), ("\u2028", 3), ("\x01", 6)],
)
def test_the_size_of_claims_is_that_of_the_json_in_the_token(letter: str, size: int):
    room = MAX_CLAIMS_BYTES - len('{"n":""}')
    fits = {"n": letter * (room // size) + "a" * (room % size)}
    assert passed(lambda c: c.claims(fits)) == fits
    too_much = {"n": fits["n"] + "a"}
    assert told(lambda c: c.claims(too_much)) == [
        ("claims", "must have at most 1024 bytes as JSON")
    ]


def test_names_of_claims_count_towards_the_size():
    room = MAX_CLAIMS_BYTES - len('{"n":"","mm":""}')
    assert told(lambda c: c.claims({"n": "a" * room, "mm": ""})) == []
    assert told(lambda c: c.claims({"n": "a" * room, "mmm": ""})) == [
        ("claims", "must have at most 1024 bytes as JSON")
    ]


# Authentication methods.


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["pwd"],
        ["pwd", "otp", "hwk"],
        ["m" * 128],
        ["http://schemas.example.com/claims/mfa#otp"],
        ["a:b/c.d-e_F9"],
        ["pwd"] * MAX_AUTH_METHODS,
    ],
)
def test_auth_methods_within_the_rule_are_accepted(value: list[str]):
    assert passed(lambda c: c.auth_methods(value)) == tuple(value)


@pytest.mark.parametrize("bad", ["", "m" * 129, "a b", "é", "pwd\n"])
def test_a_bad_auth_method_is_refused(bad: str):
    rule = f"must be 1 to 128 {URI_RULE}"
    assert told(lambda c: c.auth_methods(["pwd", bad])) == [("auth_methods[1]", rule)]


def test_too_many_auth_methods_are_refused():
    assert told(lambda c: c.auth_methods(["pwd"] * (MAX_AUTH_METHODS + 1))) == [
        ("auth_methods", "must have at most 8 entries")
    ]
    assert len(told(lambda c: c.auth_methods([""] * 10_000))) == 1 + MAX_AUTH_METHODS


# Times, retries, pages, batches.


@pytest.mark.parametrize(
    "value", [MIN_SESSION_TTL, MIN_SESSION_TTL + US, timedelta(hours=8), MONTH - US, MONTH]
)
def test_a_session_ttl_within_the_rule_is_accepted(value: timedelta):
    assert passed(lambda c: c.session_ttl(value, MONTH)) == value


def test_an_absent_session_ttl_is_the_longest():
    assert passed(lambda c: c.session_ttl(None, MONTH)) == MONTH


@pytest.mark.parametrize(
    "value", [timedelta(0), -MIN_SESSION_TTL, MIN_SESSION_TTL - US, MONTH + US, timedelta.max]
)
def test_a_bad_session_ttl_is_refused(value: timedelta):
    rule = "must be from 1 to 2592000 seconds"
    assert told(lambda c: c.session_ttl(value, MONTH)) == [("session_ttl", rule)]


def test_a_request_id_within_the_rule_is_accepted():
    assert passed(lambda c: c.request_id(SPELLED)) == UUID(SPELLED)
    assert passed(lambda c: c.request_id("")) is None


@pytest.mark.parametrize("value", ["again", SPELLED[:-1], f"-{SPELLED}", str(UUID(int=0))])
def test_a_bad_request_id_is_refused(value: str):
    assert told(lambda c: c.request_id(value)) == [("request_id", "must be a UUID")]


@pytest.mark.parametrize(("value", "size"), [(0, 50), (1, 1), (50, 50), (999, 999), (1000, 1000)])
def test_a_page_size_within_the_rule_is_accepted(value: int, size: int):
    assert passed(lambda c: c.page_size(value)) == size


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (-1, "must not be negative"),
        (-(2**31), "must not be negative"),
        (1001, "must be at most 1000"),
        (2**31 - 1, "must be at most 1000"),
    ],
)
def test_a_bad_page_size_is_refused(value: int, rule: str):
    assert told(lambda c: c.page_size(value)) == [("page_size", rule)]


@pytest.mark.parametrize("size", [1, 2, 499, 500])
def test_a_batch_within_the_rule_is_accepted(size: int):
    assert told(lambda c: c.batch(size)) == []


@pytest.mark.parametrize("size", [0, 501, 10_000])
def test_a_bad_batch_is_refused(size: int):
    assert told(lambda c: c.batch(size)) == [("requests", f"must be 1 to 500 requests, not {size}")]


# Several fields together.


def test_all_faults_of_a_request_are_reported_at_once_in_order():
    checks = FieldChecks()
    checks.user_id("")
    checks.claims({"sub": "a", "a b": ""})
    checks.auth_methods([""])
    checks.session_ttl(timedelta(0), MONTH)
    checks.request_id("again")
    checks.page_size(-1)
    checks.batch(0)
    with pytest.raises(InvalidRequest) as refusal:
        checks.done()
    fields = [v.field for v in refusal.value.violations]
    assert fields == [
        "user_id",
        "claims",
        "claims.sub",
        "auth_methods[0]",
        "session_ttl",
        "request_id",
        "page_size",
        "requests",
    ]
    for violation in refusal.value.violations:
        assert f"{violation.field}: {violation.description}" in str(refusal.value)


def test_a_request_without_faults_passes():
    FieldChecks().done()


def test_a_message_never_repeats_the_value_that_was_sent():
    """The value may hold a secret, or be written unchanged to a log or a page."""
    secret = "s3cr3t\n<script>"
    checks = FieldChecks()
    checks.user_id(secret)
    checks.device_id(secret)
    checks.optional_device_id(secret, "current_device_id")
    checks.client(secret, secret, secret, secret)
    checks.display_name(secret)
    checks.claims({secret: secret, "sub": secret})
    checks.auth_methods([secret])
    checks.request_id(secret)
    with pytest.raises(InvalidRequest) as refusal:
        checks.done()
    assert len(refusal.value.violations) == 7
    assert "s3cr3t" not in str(refusal.value)


def test_a_violation_names_field_and_rule():
    refusal = InvalidRequest([FieldViolation("a", "must be b"), FieldViolation("c", "must be d")])
    assert str(refusal) == "a: must be b; c: must be d"


def test_a_display_name_may_contain_joining_characters():
    checks = FieldChecks()
    for name in ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f4bb"):
        assert checks.display_name(name) == name
    checks.done()
