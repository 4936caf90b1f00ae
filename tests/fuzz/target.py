"""What a fuzz target is: something that reads hostile bytes, and what must be so whatever they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

Mutate = Callable[[bytes, Random, Callable[[bytes], bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """`check` raises anything at all if a property does not hold for its input. `seeds` are inputs
    that lead deep into what is tested, `words` are what inputs are made of. `mutate` changes an
    input where bytes alone would not do: it is given a source of chance, and what the fuzzer would
    do to a part.
    """

    check: Callable[[bytes], None]
    seeds: Iterable[bytes]
    words: Iterable[bytes] = ()
    mutate: Mutate | None = None
