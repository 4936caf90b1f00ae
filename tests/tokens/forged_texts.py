"""Forgeries by spelling: changes to the text of a real token, and texts that are no tokens. See
`forgeries`.
"""

from __future__ import annotations

import json

from session_authority.tokens import MAX_TOKEN_BYTES
from tests.tokens.forger import SECRET, Kinds, Texts, Victim, adding_to, flipped_bits, without
from tests.tokens.harness import base64url, header_of

KINDS: Kinds = {}
kind = adding_to(KINDS)
_HEADER = header_of(SECRET)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@kind
def spellings(victim: Victim) -> Texts:
    for algorithm, text in victim.real_ones().items():
        header, payload, signature = text.split(".")
        ends = [
            "=",
            "==",
            "===",
            ".",
            "..",
            " ",
            "\n",
            "\r\n",
            "\t",
            "\0",
            "A",
            "AAAA",
            "%3D",
            ",",
            ";",
        ]
        ends += ["\u200b", "\ud800", "\ufeff"]
        starts = [" ", "\n", "\t", "=", ".", "Bearer ", "bearer:", '"', "\ufeff", "\0", "A"]
        for end in ends:
            yield f"{algorithm.value}, {end!a} after", text + end
            yield (
                f"{algorithm.value}, {end!a} after the header",
                f"{header}{end}.{payload}.{signature}",
            )
            yield (
                f"{algorithm.value}, {end!a} after the payload",
                f"{header}.{payload}{end}.{signature}",
            )
        for start in starts:
            yield f"{algorithm.value}, {start!a} before", start + text
        for inner in ("\n", " ", "\r\n", "\t", "!", "%", "\0", "\u00a0"):
            yield (
                f"{algorithm.value}, {inner!a} within the signature",
                f"{text[:-9]}{inner}{text[-9:]}",
            )
            yield f"{algorithm.value}, {inner!a} within the header", f"{text[:9]}{inner}{text[9:]}"
        yield f"{algorithm.value}, quoted", f'"{text}"'
        yield f"{algorithm.value}, turned", text[::-1]
        yield f"{algorithm.value}, in capitals", text.upper()
        yield f"{algorithm.value}, in small letters", text.lower()
        yield f"{algorithm.value}, percent-encoded", text.replace(".", "%2E")
        yield f"{algorithm.value}, in wide letters", "".join(chr(ord(c) + 0xFEE0) for c in text)
        yield f"{algorithm.value}, in UTF-16", text.encode("utf-16-le").decode()
        yield f"{algorithm.value}, a Cyrillic letter", text.replace("e", "е", 1)
        yield f"{algorithm.value}, other full stops", text.replace(".", "。")
        yield f"{algorithm.value}, bits to spare", _with_bits_to_spare(text)


def _with_bits_to_spare(text: str) -> str:
    """Sets an unused bit in the last letter of a segment that has unused bits."""
    segments = text.split(".")
    position = next(position for position, segment in enumerate(segments) if len(segment) % 4)
    last = segments[position][-1]
    segments[position] = segments[position][:-1] + _ALPHABET[_ALPHABET.index(last) ^ 1]
    return ".".join(segments)


@kind
def other_alphabets(victim: Victim) -> Texts:
    for copy in range(0x10, 0x30):
        sid, generation = victim.payload["sid"], victim.payload["gen"]
        text = victim.saying(jti=f"{sid}.{generation}.{copy:04x}")
        for name, other in (
            ("standard", text.replace("-", "+").replace("_", "/")),
            ("mixed", text.replace("-", "+")),
        ):
            if other != text:
                yield f"{name}, copy {copy}", other


@kind
def segments(victim: Victim) -> Texts:
    header, payload, signature = victim.text.split(".")
    for name, parts in {
        "header only": [header],
        "no signature": [header, payload],
        "no header": [payload, signature],
        "no payload": [header, signature],
        "an empty header": ["", payload, signature],
        "an empty payload": [header, "", signature],
        "an empty signature": [header, payload, ""],
        "nothing but full stops": ["", "", ""],
        "one full stop": ["", ""],
        "four": [header, payload, signature, signature],
        "four, the last empty": [header, payload, signature, ""],
        "five, as of a JWE": [header, payload, payload, payload, signature],
        "five, a JWE without a key": [
            base64url(b'{"alg":"dir","enc":"A128GCM"}'),
            "",
            payload,
            payload,
            signature,
        ],
        "two tokens": [header, payload, signature, header, payload, signature],
        "turned": [signature, payload, header],
        "the payload twice": [header, payload, payload],
    }.items():
        yield name, ".".join(parts)
    for separator in (",", ":", "~", "|", " ", "/", "\n"):
        yield f"joined by {separator!r}", separator.join([header, payload, signature])
    flat = {"payload": payload, "protected": header, "signature": signature}
    yield "flattened JSON", json.dumps(flat)
    yield "general JSON", json.dumps({"payload": payload, "signatures": [without(flat, "payload")]})
    yield "JSON, encoded", base64url(json.dumps(flat).encode())
    yield "nested", victim.signed({**_HEADER, "cty": "JWT"}, payload=victim.text.encode())
    yield "nested, without cty", victim.signed(payload=victim.text.encode())


@kind
def cuts(victim: Victim) -> Texts:
    for algorithm, text in victim.real_ones().items():
        stops = [position for position, letter in enumerate(text) if letter == "."]
        positions = {1, 2, len(text) // 2, *range(len(text) - 5, len(text))}
        for position in sorted(
            positions | {stop + by for stop in stops for by in (-2, -1, 0, 1, 2)}
        ):
            yield f"{algorithm.value} up to {position}", text[:position]
            yield f"{algorithm.value} from {position} on", text[position:]


@kind
def flips(victim: Victim) -> Texts:
    for algorithm, text in victim.real_ones().items():
        # The step is odd, so bits of every position in a byte are flipped.
        for name, flipped in flipped_bits(text, step=53):
            yield f"{algorithm.value}, {name}", flipped


@kind
def rubbish(victim: Victim) -> Texts:
    texts = [
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.e30",
        "e30.e30.",
        "null",
        "undefined",
        "0",
        "{}",
        "[]",
        " ",
        "\0",
        "☃",
        "\ud800",
    ]
    for text in texts:
        yield f"{text!a}", text
    for name in ("jti", "sub", "sid", "dk"):
        yield f"the {name} alone", victim.payload[name]


@kind
def overlong(victim: Victim) -> Texts:
    """Tokens that are right except for their length, and long texts of one letter."""
    for size in (MAX_TOKEN_BYTES + 1, MAX_TOKEN_BYTES + 2, 8192, 60_000, 1_000_000, 10_000_000):
        yield f"{size} characters", _of_size(victim, size)
    for letter in ("a", ".", "A.", "\ud800"):
        yield f"a million times {letter!a}", letter * 1_000_000


def _of_size(victim: Victim, size: int) -> str:
    """A real token with a claim that makes it this long, or one character longer where base64 has
    no such length.
    """
    short = size - len(victim.saying(pad=""))
    for length in range(short * 3 // 4, short):
        if len(text := victim.saying(pad="x" * length)) >= size:
            return text
    raise AssertionError
