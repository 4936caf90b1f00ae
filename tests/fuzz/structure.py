"""Changes that keep the form of an input. libFuzzer changes only bytes, which mostly makes an input
invalid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_OTHERS = (
    b"null",
    b"true",
    b"1.0",
    b"-1",
    b"1e400",
    b"NaN",
    b"[]",
    b"{}",
    b"18446744073709551616",
    b'"\\ud800"',
)
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+')


def change_a_value(data: bytes, random: Random, mutated: Callable[[bytes], bytes]) -> bytes:
    """Replaces one text or number: by a part of it, by another text or number of the input, by
    another JSON value, or by a text that the fuzzer makes of it.
    """
    values = list(_VALUE.finditer(data))
    if not values:
        return mutated(data)
    chosen = random.choice(values)
    text = chosen[0].strip(b'"')
    place = random.randint(0, len(text))
    match random.randrange(5):
        case 0:
            new = text[place:]
        case 1:
            new = text[:place]
        case 2:
            new = random.choice(values)[0].strip(b'"')
        case 3:
            return data[: chosen.start()] + random.choice(_OTHERS) + data[chosen.end() :]
        case _:
            new = mutated(text)
    stays_of_its_kind = random.random() < 0.9
    if chosen[0].startswith(b'"') == stays_of_its_kind:
        new = b'"' + new + b'"'
    return data[: chosen.start()] + new + data[chosen.end() :]


def changed(text: str, change: bytes) -> str:
    """The text with a change in one place: the position (two bytes), how many characters are
    removed, and what is inserted.
    """
    place, gone = int.from_bytes(change[:2]) % (len(text) + 1), change[2] if len(change) > 2 else 0
    return text[:place] + change[3:].decode(errors="surrogateescape") + text[place + gone :]


def changes_at_the_end(text: str) -> list[bytes]:
    """Changes at the end that readers often overlook: unused bits, padding, white space, more
    text.
    """
    place = (len(text) - 1).to_bytes(2)
    after = len(text).to_bytes(2)
    return [
        place + b"\1A",
        place + b"\1==",
        *(after + b"\0" + more for more in (b"", b"=", b"====", b"\n", b"!!!!")),
    ]
