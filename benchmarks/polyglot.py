"""Measures how soon a revocation becomes a denial in clients of several languages with near caches.

Starts one development server and the testee of each client that can be built here. Each client
validates one user again and again from its cache, 2 ms after each answer. Then the user is revoked.
The users follow one another.

Two delays are counted from the answer to the revocation: to the start of the last validation that
was answered "active", and to the first denial, which takes a call. Ends with an error if a client
answers "active" beyond the documented bound.

    make bench ARGS=polyglot
    make bench ARGS="polyglot --revocations 200 --clients go,typescript"
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.polyglot.revocations import BOUND_MS, Denied, beyond_the_bound, watchers
from tests.polyglot.testee import Process, Testee
from tests.polyglot.testees import Program, built, wanted_recipes
from tests.support.dev import dev_server


def line(name: str, delays: Sequence[float]) -> str:
    """Formats the median, the 99th percentile and the longest delay."""
    p99 = statistics.quantiles(delays, n=100)[98]
    return (
        f"  {name:28} median {statistics.median(delays):6.1f}  p99 {p99:6.1f}"
        f"  max {max(delays):6.1f} ms"
    )


async def revoke_one_by_one(
    processes: Sequence[Process], service: str, revocations: int
) -> list[Denied]:
    """Revokes users one by one. Returns what each client answered after each revocation."""
    denials: list[Denied] = []
    async with AsyncExitStack() as stack:
        testees = [await stack.enter_async_context(Testee(process)) for process in processes]
        clients = await stack.enter_async_context(watchers(testees, service, service))
        for _ in range(revocations):
            user = await clients.sign_in()
            await clients.warm(user)
            denials += await clients.revoke(user)
    return denials


def programs(scratch: Path) -> list[Program]:
    """Returns the testees that this machine can build, and prints which ones it can't build."""
    found = []
    for recipe in wanted_recipes().values():
        program = built(recipe, scratch)
        if isinstance(program, Program):
            found.append(program)
        else:
            sys.stdout.write(f"left out: {recipe.name}: {program}\n")
    return found


def main(arguments: Sequence[str]) -> None:
    """Runs the measurement and prints the delays."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=polyglot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--revocations", type=int, default=1000)
    parser.add_argument("--clients", default="all", help="folders of clients, or all")
    asked = parser.parse_args(arguments)
    os.environ["TESTEES"] = asked.clients
    with tempfile.TemporaryDirectory() as scratch:
        found = programs(Path(scratch))
        with dev_server(Path(scratch) / "data") as dev:
            processes = [Process(program) for program in found]
            began = time.monotonic()
            try:
                play = revoke_one_by_one(processes, dev.address, asked.revocations)
                denials = asyncio.run(play)
            finally:
                for process in processes:
                    process.end()
    seconds = time.monotonic() - began
    sys.stdout.write(f"{asked.revocations} revocations in {seconds:.0f} s; from each answer\n")
    for program in found:
        own = [denied for denied in denials if denied.testee == program.name]
        sys.stdout.write(f"{program.name}: {len(own)} denials\n")
        sys.stdout.write(line("to the last active", [max(0, d.stale_ms) for d in own]) + "\n")
        sys.stdout.write(line("to the first denial", [d.lag_ms for d in own]) + "\n")
    if late := beyond_the_bound(denials):
        sys.exit(f"{len(late)} answers were active over {BOUND_MS:g} ms after the revocation.")


if __name__ == "__main__":
    main(sys.argv[1:])
