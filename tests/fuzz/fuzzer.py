"""Fuzzes one target in this process: `python -m tests.fuzz.fuzzer MODULE NAME`, with the options of
libFuzzer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from random import Random

import atheris

from tests.fuzz.target import Mutate


def main() -> None:
    """Fuzzes until libFuzzer ends the process."""
    program, module, name, *arguments = sys.argv
    # libFuzzer sees only the branches of the service's modules that are imported in this block.
    with atheris.instrument_imports(include=["session_authority"]):
        target = getattr(import_module(module), name)
    mutators = {} if target.mutate is None else {"custom_mutator": _mutator(target.mutate)}
    atheris.Setup([program, *arguments], target.check, **mutators)
    atheris.Fuzz()


def _mutator(mutate: Mutate) -> Callable[[bytes, int, int], bytes]:
    """Uses the target's own mutator half of the time, and libFuzzer's the other half."""

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            mutated: bytes = atheris.Mutate(data, max_size)
            return mutated
        return mutate(data, random, lambda part: atheris.Mutate(part, 2 * len(part) + 16))[
            :max_size
        ]

    return mutator


if __name__ == "__main__":
    main()
