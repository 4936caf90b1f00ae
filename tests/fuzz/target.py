"""A fuzz target: code that reads hostile bytes, and the properties that hold for any bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

Mutate = Callable[[bytes, Random, Callable[[bytes], bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """`check` raises an exception if a property does not hold for its input. `seeds` are inputs
    that lead deep into the tested code, and `words` are parts of inputs. `mutate`, if there is one,
    changes an input and keeps its form: it gets a random generator, and a function that lets the
    fuzzer change a part.
    """

    check: Callable[[bytes], None]
    seeds: Iterable[bytes]
    words: Iterable[bytes] = ()
    mutate: Mutate | None = None
