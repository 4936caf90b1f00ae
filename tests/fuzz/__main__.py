"""`make fuzz`: fuzzes each target for FUZZ_SECONDS; arguments name some."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from tests.fuzz.campaign import FOLDER, HAS_WHEEL, TARGETS, fuzz


def main(names: list[str]) -> int:
    """Returns 1 if a target failed, or if the fuzzer is missing where it is required; 2 for an
    unknown name.
    """
    if unknown := set(names) - set(TARGETS):
        print(
            f"No such target: {', '.join(sorted(unknown))}. There are: {', '.join(TARGETS)}",
            file=sys.stderr,
        )
        return 2
    if find_spec("atheris") is None:
        print(
            "Nothing is fuzzed: atheris has no wheel for this machine: see requirements/fuzz.in",
            file=sys.stderr,
        )
        return 1 if os.environ.get("REQUIRE_BACKENDS") and HAS_WHEEL else 0
    failed = 0
    for name in names or TARGETS:
        outcome = fuzz(name, int(os.environ.get("FUZZ_SECONDS", "20")), FOLDER / name)
        print(outcome.line, flush=True)
        if outcome.returncode:
            failed = 1
            print(
                f"  what it says: {outcome.log}\n  the input: {outcome.found or 'none was kept'}",
                file=sys.stderr,
            )
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
