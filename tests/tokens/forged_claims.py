"""Forgeries with wrong claims: all of them are really signed by a key of the service, as if it had
been deceived. See `forgeries`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.tokens.forger import (
    SECRET,
    Kinds,
    Texts,
    Victim,
    adding_to,
    json_with,
    spelled,
    told,
    without,
)
from tests.tokens.harness import header_of

KINDS: Kinds = {}
kind = adding_to(KINDS)
_HEADER = header_of(SECRET)


def claim_variants(payload: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Values that each claim must not have."""
    no_time: list[Any] = [
        None,
        "",
        "1",
        str(payload["iat"]),
        1.5,
        float(payload["iat"]),
        True,
        False,
        [],
        [1],
        {},
    ]
    no_time += [-1, -1.0, 10**12, 2**63, 2**64, 10**400]
    generation = payload["gen"]
    no_generation: list[Any] = [
        None,
        "",
        str(generation),
        [generation],
        {},
        True,
        False,
        float(generation),
    ]
    no_generation += [
        generation + 0.5,
        generation + 1,
        generation + 1000,
        0,
        -1,
        2**32,
        2**64,
        10**400,
    ]
    return {
        **{
            name: _text_variants(payload[name], _MORE_TEXTS[name])
            for name in ("iss", "aud", "sub", "dk", "sid")
        },
        "jti": _text_variants(payload["jti"], [*_other_ids(payload)]),
        "gen": no_generation,
        "iat": [*no_time, 0.0],
        "exp": [*no_time, payload["iat"] - 1, 0],
        "auth_time": [*no_time, 0.0],
    }


def _text_variants(text: str, more: list[Any]) -> list[Any]:
    """Values that are no text, and texts that are nearly this one."""
    values: list[Any] = [None, "", 1, 1.0, True, [], {}, [text], [[text]], {text: 1}]
    values += [text + end for end in (" ", "\n", "\t", "\0", "\u200b", "\ufeff")]
    values += [start + text for start in (" ", "\n", "\u202e")]
    return values + more


_MORE_TEXTS: dict[str, list[Any]] = {
    "iss": [
        *(
            "https://sessions.example/",
            "https://sessions.exampl",
            "//sessions.example",
            "http://sessions.example",
        ),
        *(
            "https://sessions.example:443",
            "HTTPS://SESSIONS.EXAMPLE",
            "https://sеssions.example",
            "https://evil.example",
        ),
    ],
    "aud": [
        "EXAMPLE",
        "exampl",
        "example2",
        "ехample",
        "example other",
        "example,other",
        ["example", "other"],
        "other",
    ],
    "sub": ["u" * 256, "a ", "\0", "a\0b", "\ud800", "a\u200b", "\u00a0a", "a\u2028b"],
    "dk": [
        "A" * 20,
        "A" * 21,
        "A" * 23,
        "A" * 24,
        "A" * 21 + "x",
        "A" * 22 + "==",
        "+" * 21 + "A",
        "Ä" * 22,
        "00" * 16,
    ],
    "sid": ["f" * 31, "f" * 33, "F" * 32, "G" * 32, "0x" + "f" * 30, "\u0663" * 32, "f" * 16],
}


def _other_ids(payload: Mapping[str, Any]) -> Iterator[str]:
    """Values of `jti` that contradict the other claims, or say the same in another form."""
    sid, generation, token_id = payload["sid"], payload["gen"], payload["jti"]
    start, copy = token_id[:-4], token_id[-4:]
    copies = [
        "",
        "0000",
        "-0ab",
        "+0ab",
        "0x1f",
        "1_23",
        "00AB",
        " 0ab",
        "0ab ",
        "\u0663" * 4,
        copy + "0",
        copy[1:],
    ]
    for other in copies:
        yield start + other
    for other in (
        f"0{generation}",
        f"+{generation}",
        f"{generation}.0",
        f"{generation}.",
        generation + 1,
        "",
    ):
        yield f"{sid}.{other}.{copy}"
    yield from (
        token_id.upper(),
        f"{'0' * 32}.{generation}.{copy}",
        f".{generation}.{copy}",
        copy,
        sid,
    )


@kind
def claims(victim: Victim) -> Texts:
    for name, values in claim_variants(victim.payload).items():
        yield f"without {name}", victim.signed(payload=without(victim.payload, name))
        shouted = {**without(victim.payload, name), name.upper(): victim.payload[name]}
        yield f"{name} in capitals", victim.signed(payload=shouted)
        for value in values:
            if value != victim.payload[name] or type(value) is not type(victim.payload[name]):
                yield f"{name}: {told(value)}", victim.saying(**{name: value})
    yield "none at all", victim.signed(payload=b"{}")
    yield "those of the header", victim.signed(payload=_HEADER)
    amrs = [
        None,
        "",
        "pwd",
        1,
        {},
        {"pwd": 1},
        [1],
        ["pwd", None],
        [["pwd"]],
        [""],
        ["a b"],
        ["a"] * 9,
        ["a" * 129],
    ]
    for amr in amrs:
        yield f"amr: {told(amr)}", victim.saying(amr=amr)


@kind
def claims_of_the_caller(victim: Victim) -> Texts:
    values: list[Any] = [None, 1, 1.5, True, [], {}, ["x"], "\ud800", "x\udfff"]
    for value in values:
        yield f"a value that is {value!a}", victim.saying(tenant=value)
    for name in ("scope", "roles", "azp", "act", "cnf", "nonce", "permissions", "\ud800"):
        yield f"the name {name!a}", victim.saying(**{name: "x"})


@kind
def sessions_that_can_not_be(victim: Victim) -> Texts:
    """Sessions that are impossible, although `jti` agrees with them."""
    sid, copy = victim.payload["sid"], victim.payload["jti"][-4:]
    for generation in (0, -1, 2**32, 2**32 + victim.payload["gen"], 10**20):
        yield (
            f"generation {generation}",
            victim.saying(gen=generation, jti=f"{sid}.{generation}.{copy}"),
        )
    for name, session in (
        *(
            ("short", sid[:-2]),
            ("long", sid + "00"),
            ("with a newline", sid + "\n"),
            ("in capitals", sid[:-1] + "A"),
        ),
        *(("empty", ""), ("with a blank", sid[:-1] + " "), ("with a full stop", sid[:-1] + ".")),
        ("with a prefix", "0x" + sid[2:]),
    ):
        token_id = f"{session}.{victim.payload['gen']}.{copy}"
        yield f"a session ID that is {name}", victim.saying(sid=session, jti=token_id)


@kind
def times(victim: Victim) -> Texts:
    issued, expires = victim.payload["iat"], victim.payload["exp"]
    for ahead in (31, 60, 3600, 10**6, 10**9):
        yield f"from {ahead} s ahead", victim.saying(iat=issued + ahead, exp=expires + ahead)
        yield f"not before {ahead} s ahead", victim.saying(nbf=issued + ahead)
    for value in (None, "", "1", 1.5, float(issued), True, -1, [issued], 10**12, 10**400):
        yield f"not before {told(value)}", victim.saying(nbf=value)
    for before in (1, 29, 3600):
        yield f"ended {before} s before it was issued", victim.saying(exp=issued - before)
    yield "issued 10 s after its end", victim.saying(iat=issued + 20, exp=issued + 10)


@kind
def numbers(victim: Victim) -> Texts:
    texts = (
        "NaN Infinity -Infinity 1e400 -1e400 1e1000000 1e-400 01 +3 0x3 3_0 3. .3 3e0 3.0 0.3e1 -3"
        " 3n ٣".split()
    )
    texts += ["1" + "0" * 1500, "1" * 2500, "1" + "0" * 5000, "1e" + "9" * 1000]
    for name in ("gen", "iat", "exp", "auth_time"):
        for text in texts:
            yield (
                f"{name}: {told(text)}",
                victim.signed(payload=json_with(victim.payload, name, text)),
            )


# ----- as JSON

_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


def _in_disguise(name: str) -> bytes:
    return f"\\u{ord(name[0]):04x}{name[1:]}".encode()


@kind
def repeated_members(victim: Victim) -> Texts:
    for part, members in (("header", _HEADER), ("payload", victim.payload)):
        pairs = [(name, json.dumps(value)) for name, value in members.items()]
        for name, value in pairs:
            twice = {
                "twice": spelled([*pairs, (name, value)]),
                "twice, once in disguise": (
                    spelled([*pairs, ("@", value)]).replace(b"@", _in_disguise(name))
                ),
                "null and right": spelled([(name, "null"), *pairs]),
                "right and null": spelled([*pairs, (name, "null")]),
            }
            for how, data in twice.items():
                text = (
                    victim.signed(header=data) if part == "header" else victim.signed(payload=data)
                )
                yield f"{part}: {name} {how}", text


@kind
def parts_that_are_no_objects(victim: Victim) -> Texts:
    good = {"header": json.dumps(_HEADER).encode(), "payload": json.dumps(victim.payload).encode()}
    parts = [
        b"",
        b"null",
        b"true",
        b"1",
        b'"x"',
        b"[]",
        b"{}",
        b"{",
        b"}",
        b"NaN",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
    ]
    parts += [
        b"[" * 2500,
        b'{"a":' * 500,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 400 + b"1" + b"}" * 400,
    ]
    for part, text in good.items():
        more = [
            b"[" + text + b"]",
            text + text,
            text + b"x",
            text + b"\0",
            text[:-1],
            text[:-1] + b",}",
            text[1:],
        ]
        more += [b"//\n" + text, text + b"\n//", json.dumps(text.decode()).encode()]
        more += [text.replace(b'"', b"'"), text.replace(b":", b"=")]
        more += [text.decode().encode(encoding) for encoding in _ENCODINGS]
        for number, data in enumerate([*parts, *more]):
            name = f"{part} {number}: {data[:12]!r}"
            yield (
                name,
                victim.signed(header=data) if part == "header" else victim.signed(payload=data),
            )
