"""The forgeries: everything that people have tried, or might try, to pass as a token of the
service. This is data without tests.

Each kind is a function that yields names and texts, in the module of its subject: to add a forgery
is to add a line to a function. `twins` and `over` are no forgeries: they are real tokens that look
most like forgeries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from session_authority.tokens import Algorithm
from tests.tokens import forged_claims, forged_keys, forged_texts
from tests.tokens.forger import P256_ORDER, SECRET, Kinds, Texts, Victim, r_and_s, resigned
from tests.tokens.harness import header_of

KINDS: Kinds = {**forged_keys.KINDS, **forged_claims.KINDS, **forged_texts.KINDS}
_HEADER = header_of(SECRET)


def forgeries(victim: Victim) -> Iterator[tuple[str, str, str]]:
    """The kind, the name and the text of each forgery."""
    for kind, generate in KINDS.items():
        for name, text in generate(victim):
            yield kind, name, text


def twins(victim: Victim) -> Texts:
    """Other texts of a real token. A token is identified by what it says under a valid signature,
    so each of these texts is the same token. A person who can make one without a key has the token
    already.
    """
    es256 = victim.real_ones()[Algorithm.ES256]
    yield "ES256: n − s, as valid as s", resigned(es256, _with_n_minus_s)
    for algorithm, text in victim.real_ones().items():
        yield f"signed by the published key {algorithm.value}", text
    turned = dict(reversed(_HEADER.items())), dict(reversed([*victim.payload.items()]))
    yield "members in another order", victim.signed(*turned)
    yield (
        "white space in the JSON that we signed",
        victim.signed(payload=json.dumps(victim.payload, indent=2).encode()),
    )
    yield "an nbf that has come", victim.saying(nbf=victim.payload["iat"])


def _with_n_minus_s(data: bytes) -> bytes:
    return data[:32] + (P256_ORDER - r_and_s(data)[1]).to_bytes(32)


def over(victim: Victim) -> Texts:
    """Real tokens that are too old: a validation says that they have ended, and a renewal may
    succeed.
    """
    issued = victim.payload["iat"]
    for age in (31, 3600, 3 * 86_400):
        yield f"for {age} s", victim.saying(iat=issued - age - 3600, exp=issued - age)
    yield "since 1970", victim.saying(iat=0, exp=0)
