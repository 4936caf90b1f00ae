"""The tables of comparisons: each suite is a list of variants that are measured in turns.

A variant is one line: its name, its server with its settings, and its load. If this version of the
service lacks a setting, the variants with this setting are left out, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from benchmarks import questions
from benchmarks.load.answers import Questions
from benchmarks.loads import Closed, Open, PythonClient, RedisBenchmark
from benchmarks.population import SignedIn
from benchmarks.rounds import Results, Variant
from benchmarks.stage import Kind, ServerSpec, Stage, Transport


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a run measures."""

    rounds: int = 5
    seconds: float = 1.0
    users: int = 10_000
    batches: int = 30
    redis_calls: int = 30_000
    sign_in_devices: tuple[int, ...] = (1, 100, 1000)
    collectors: int = 32
    sign_outs: int = 12
    many_devices: int = 1000
    memory_users: int = 10_000
    start_ups: int = 5
    watchers: int = 100
    watch_seconds: float = 5.0
    few_sessions: int = 1_000
    many_sessions: int = 1_000_000
    asked_of_many: int = 500


FULL = Sizes()
QUICK = Sizes(
    rounds=2,
    seconds=0.1,
    users=300,
    batches=3,
    redis_calls=5_000,
    collectors=8,
    sign_outs=2,
    memory_users=3_000,
    start_ups=1,
    watchers=10,
    watch_seconds=1.0,
    many_sessions=5_000,
    asked_of_many=50,
)

SERVICE, EMPTY_RPC, WEB = ServerSpec(), ServerSpec(Kind.EMPTY_RPC), ServerSpec(Kind.WEB)
EMPTY_STANDING_RPC = ServerSpec(Kind.EMPTY_STANDING_RPC)
EMPTY_VALIDATION = ServerSpec(Kind.EMPTY_VALIDATION)
STOCK = ServerSpec(settings=(("ACCEPTOR", "stock"),))


# Calls a second, for a run that has measured no rate itself.
_MODERATE_RATE = 200.0
_DEVICES_OF_OTHERS = 3


class Suites:
    """Makes the tables of variants for a stage, in the given sizes."""

    def __init__(self, stage: Stage, sizes: Sizes) -> None:
        self._stage = stage
        self._sizes = sizes

    def table(self, name: str, results: Results) -> list[Variant]:
        """Returns the variants of one of SUITES. `results` are the results of the suites
        before it.
        """
        return SUITES[name](self, results)

    @cached_property
    def _crowd(self) -> Sequence[SignedIn]:
        """Users with a steady session each. Figures for a single user are those of the first."""
        store = self._stage.store()
        crowd = store.population.add([f"user-{number}" for number in range(self._sizes.users)])
        store.population.add_to_floor(crowd)
        return crowd

    @cached_property
    def _hundred(self) -> Sequence[SignedIn]:
        return self._crowd[:100]

    def _closed(self, asked: Questions, connections: int = 4, streams: int = 16) -> Closed:
        return Closed(asked, self._sizes.seconds, connections, streams)

    def validation(self, _: Results) -> list[Variant]:
        """Compares one validation with its floors."""
        one = self._crowd[:1]
        record = f"floor:{one[0].user_id}", str(one[0].device_id)
        hget = RedisBenchmark(*record, self._sizes.redis_calls)
        asked, floor = questions.validations(one), questions.empty_rpcs()
        with_client = questions.validations(one, with_client=True)
        own = questions.own_checks(one)
        # HTTP/1.1 has no streams, so 64 connections correspond to 4 × 16 streams of gRPC.
        web = self._closed(questions.empty_requests(), 64, 1)
        return [
            Variant("HGET", ServerSpec(Kind.STORE), hget),
            Variant("empty RPC", EMPTY_RPC, self._closed(floor)),
            Variant("empty RPC, standing tasks", EMPTY_STANDING_RPC, self._closed(floor)),
            Variant("empty RPC, 16 streams", EMPTY_RPC, self._closed(floor, 4, 4)),
            Variant("empty RPC, 1 stream", EMPTY_RPC, self._closed(floor, 1, 1)),
            Variant("empty RPC, anywhere", EMPTY_RPC, self._closed(floor), pinned=False),
            Variant(
                "empty validation", EMPTY_VALIDATION, self._closed(questions.judging_nothing(one))
            ),
            Variant("validation", SERVICE, self._closed(asked)),
            Variant("validation, 16 streams", SERVICE, self._closed(asked, 4, 4)),
            Variant("validation, 1 stream", SERVICE, self._closed(asked, 1, 1)),
            Variant("validation, anywhere", SERVICE, self._closed(asked), pinned=False),
            Variant("validation with client", SERVICE, self._closed(with_client)),
            Variant("validation, many users", SERVICE, self._closed(self._of_all())),
            Variant("validation, stock acceptor", STOCK, self._closed(asked)),
            Variant("empty FastAPI", WEB, web),
            Variant("do-it-yourself", WEB, self._closed(own, 64, 1)),
        ]

    def _of_all(self) -> Questions:
        return questions.validations(self._crowd)

    def batching(self, _: Results) -> list[Variant]:
        """Measures batches, tokens that are seen for the first time, and the Python client."""
        hundred, one = self._hundred, self._crowd[:1]
        calls = self._sizes.batches
        newcomers = self._newcomers(calls * (self._sizes.rounds + 1) * 100)
        fresh = Closed(questions.batches(newcomers, 100), 0.0, calls=calls, streams=2)
        client = PythonClient(self._crowd[:64], self._sizes.seconds)
        own = self._closed(questions.own_checks(self._crowd[:64]), 64, 1)
        single = self._closed(questions.validations(one))
        return [
            Variant("do-it-yourself, beside batches", WEB, own),
            Variant("validation, beside batches", SERVICE, single),
            Variant("batch of 100", SERVICE, self._batches(hundred, with_client=False)),
            Variant("batch of 100 with client", SERVICE, self._batches(hundred, with_client=True)),
            Variant("first sight, batched", SERVICE, fresh),
            Variant("Python client, 64 callers", SERVICE, client),
        ]

    def _batches(self, people: Sequence[SignedIn], *, with_client: bool) -> Closed:
        asked = questions.batches(people, len(people), with_client=with_client)
        # A batch counts as one call for each 4 KiB, so more batches at once would be refused.
        return self._closed(asked, 4, 2)

    def _newcomers(self, count: int) -> Sequence[SignedIn]:
        """Users whose tokens no server has seen, and whose first use causes a write."""
        users = [f"newcomer-{number}" for number in range(count)]
        population = self._stage.store().population
        return population.add(users, age=timedelta(seconds=90), steady=False)

    def transports(self, _: Results) -> list[Variant]:
        """Measures what TLS and an access policy cost."""
        asked = self._closed(questions.validations(self._crowd[:1]))
        return [
            Variant("validation, plaintext", SERVICE, asked),
            Variant("validation, TLS", ServerSpec(transport=Transport.TLS), asked),
            Variant(
                "validation, mutual TLS + policy", ServerSpec(transport=Transport.MUTUAL_TLS), asked
            ),
        ]

    def topologies(self, _: Results) -> list[Variant]:
        """Compares one Redis with three primaries, and one worker with two.

        With one worker and with two, the number of calls under way for each worker is the same.
        """
        everyone = [f"user-{number}" for number in range(self._sizes.users)][:300]
        spread = self._stage.store("cluster").population.add(everyone)
        asked = questions.validations(self._crowd[:300])
        two = ServerSpec(settings=(("WORKERS", "2"),))
        return [
            Variant("validation, one primary", SERVICE, self._closed(asked)),
            Variant(
                "validation, three primaries",
                ServerSpec(store="cluster"),
                self._closed(questions.validations(spread)),
            ),
            Variant("validation, one worker", SERVICE, self._closed(asked, 32, 2), pinned=False),
            Variant("validation, two workers", two, self._closed(asked, 64, 2), pinned=False),
        ]

    def latencies(self, results: Results) -> list[Variant]:
        """Measures waiting times at half of the rate that the slower variant can handle."""
        rate, seconds = _half_rate(results, "empty RPC", "validation"), 2 * self._sizes.seconds
        asked = questions.validations(self._crowd[:1])
        return [
            Variant("empty RPC, half rate", EMPTY_RPC, Open(questions.empty_rpcs(), seconds, rate)),
            Variant("validation, half rate", SERVICE, Open(asked, seconds, rate)),
        ]

    def sign_ins(self, _: Results) -> list[Variant]:
        """Measures sign-ins on known devices and validations, for few and for many devices."""
        server = ServerSpec(settings=(("MAX_DEVICES", str(max(self._sizes.sign_in_devices))),))
        variants = []
        for devices in self._sizes.sign_in_devices:
            people = self._first_devices(f"collector-{devices}", devices)
            others = self._first_devices(f"reader-{devices}", devices)
            sign_in = self._closed(questions.sign_ins(people), 4, 4)
            validation = self._closed(questions.validations(others), 4, 4)
            variants.append(Variant(f"sign-in, {_devices(devices)}", server, sign_in))
            variants.append(Variant(f"validation, {_devices(devices)}", server, validation))
        return variants

    def _first_devices(self, name: str, devices: int) -> list[SignedIn]:
        """Signs some users in on `devices` devices. Returns one session of each user."""
        users = [f"{name}-{number}" for number in range(self._sizes.collectors)]
        population = self._stage.store().population
        if devices > 1:
            population.add(users, devices - 1, tokens=False)
        return population.add(users)

    def sign_outs(self, _: Results) -> list[Variant]:
        """Measures RevokeAll for users with one device and with many. Each user is signed out
        once.
        """
        variants = []
        many = self._sizes.many_devices
        for name, devices in (("1 device", 1), ("many devices", many)):
            calls = self._sizes.sign_outs
            users = [f"leaver-{devices}-{n}" for n in range(calls * (self._sizes.rounds + 1))]
            self._stage.store().population.add(users, devices, tokens=False)
            load = Closed(questions.sign_outs(users, devices), 0.0, 1, 1, calls=calls)
            variants.append(Variant(f"RevokeAll, {name}", SERVICE, load))
        return variants

    def scale(self, results: Results) -> list[Variant]:
        """Compares a thousand live sessions in Redis with a million, at half of the rate that is
        possible. The two variants have many short turns, see `ROUNDS_TIMES`.
        """
        rate, seconds = _half_rate(results, "validation"), self._sizes.seconds
        variants = []
        for name, sessions in (
            ("few", self._sizes.few_sessions),
            ("many", self._sizes.many_sessions),
        ):
            population = self._stage.store(name).population
            people = population.add([f"user-{n}" for n in range(self._sizes.asked_of_many)])
            others = (sessions - len(people)) // _DEVICES_OF_OTHERS
            users = [f"other-{number}" for number in range(others)]
            population.add(users, _DEVICES_OF_OTHERS, tokens=False)
            population.wait_for_disk()
            load = Open(questions.validations(people), seconds, rate)
            variants.append(Variant(f"validation, {name} sessions", ServerSpec(store=name), load))
        return variants


SUITES: Mapping[str, Callable[[Suites, Results], list[Variant]]] = {
    "validation": Suites.validation,
    "batching": Suites.batching,
    "transports": Suites.transports,
    "topologies": Suites.topologies,
    "latencies": Suites.latencies,
    "sign-ins": Suites.sign_ins,
    "sign-outs": Suites.sign_outs,
    "scale": Suites.scale,
}


# Some suites have more rounds. A single pause of the machine decides the p99 of a turn. Each turn
# of a variant is next to a turn of the other variant. With four times as many of these pairs, most
# pairs have no pause.
ROUNDS_TIMES: Mapping[str, int] = {"scale": 4}


def _half_rate(results: Results, *names: str) -> float:
    """Returns half of the lowest of these rates, or a moderate rate if no rate was measured."""
    rates = [results.median(name, "rate") for name in names if name in results.turns]
    return min(rates, default=2 * _MODERATE_RATE) / 2


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count:,} devices"
