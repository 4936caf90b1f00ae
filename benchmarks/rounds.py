"""Measures variants in rounds.

Each round has one turn of each variant, so that other work on the machine affects all variants
alike. Every second round runs backwards. A figure is the median over the rounds; a ratio is the
median of the rounds' ratios.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from benchmarks.accounting import placed, processor_ns
from benchmarks.load.answers import Unavailable, WrongAnswer
from benchmarks.loads import WARM_UP, Load, TakeTurn
from benchmarks.stage import Kind, Running, ServerSpec, Stage

P = ParamSpec("P")
T = TypeVar("T")
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of a comparison. Unless `pinned`, server, store and load share all cores."""

    name: str
    server: ServerSpec
    load: Load
    pinned: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of one turn of one variant. Times are for each unit, in microseconds. `busiest_us`
    is the processor time of the busiest process of the server.
    """

    units: int
    seconds: float
    server_us: float
    busiest_us: float
    store_us: float
    load_us: float
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds


@dataclass(slots=True)
class Results:
    """All results: turns by variant, other figures by name, and the reasons why variants were
    skipped.
    """

    turns: dict[str, list[Turn]] = field(default_factory=dict)
    facts: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def series(self, name: str, figure: str) -> list[float]:
        """Returns a figure of a variant in each round, or a fact. Empty if there is none."""
        if figure == "fact":
            return self.facts.get(name, [])
        return [getattr(turn, figure) for turn in self.turns.get(name, [])]

    def median(self, name: str, figure: str) -> float:
        """Returns the median of a figure of a measured variant."""
        return statistics.median(self.series(name, figure))


def ratios(results: Results, figure: str, name: str, floor: str) -> list[float]:
    """The ratio of two variants in each round. Empty if one of the two was not measured."""
    pairs = zip(results.series(name, figure), results.series(floor, figure), strict=False)
    return [value / of for value, of in pairs if of]


def measure(stage: Stage, variants: Sequence[Variant], rounds: int, results: Results) -> None:
    """Runs the variants' servers, and measures in rounds. Raises WrongAnswer."""
    possible: list[Variant] = []
    for variant in variants:
        if lacking := variant.server.lacking():
            results.skipped[variant.name] = f"this version has no {' and no '.join(lacking)}"
        else:
            possible.append(variant)
    with ExitStack() as stack:
        running: dict[ServerSpec, Running] = {}
        for variant in possible:
            if variant.server not in running:
                running[variant.server] = stage.start(variant.server)
                stack.callback(running[variant.server].stop)
        measured: list[_Measured] = []
        for variant in possible:
            one = stack.enter_context(_Measured(variant, running[variant.server]))
            one.attempt(one.open)
            results.turns[variant.name] = []
            measured.append(one)
        gc.collect()
        gc.freeze()  # no turn spends time on objects that the suite has prepared
        for number in range(rounds):
            for one in measured if number % 2 else reversed(measured):
                turn = one.attempt(one.turn, number)
                results.turns[one.variant.name].append(turn)
        if again := sum(one.attempts_failed for one in measured):
            results.facts.setdefault("turns that were taken again", []).append(float(again))


class _Measured(ExitStack):
    """A variant with its server and its connections. Closing it closes the connections."""

    def __init__(self, variant: Variant, server: Running) -> None:
        super().__init__()
        self.variant = variant
        self.attempts_failed = 0
        self._server = server
        self._take_turn: TakeTurn | None = None

    def attempt(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Calls `work`, and calls it again if the server was unavailable on a starved machine.

        A call that the server gave up gives no figure, but it must not end the run either. Raises
        WrongAnswer after several attempts, or at once after a wrong answer.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return work(*arguments, **named)
            except Unavailable as error:
                self.attempts_failed += 1
                self.close()
                self._take_turn = None
                if not left:
                    raise WrongAnswer(f"{self.variant.name}: {error}") from error
            except WrongAnswer as error:
                raise WrongAnswer(f"{self.variant.name}: {error}") from error
        raise AssertionError

    def open(self) -> TakeTurn:
        """Connects and warms up, unless that has been done."""
        if self._take_turn is None:
            self._server.until_answered()
            take_turn = self.enter_context(self.variant.load.opened(self._server))
            take_turn(WARM_UP)
            self._take_turn = take_turn
        return self._take_turn

    def turn(self, number: int) -> Turn:
        """Runs one turn and returns its figures."""
        return _turn(self.variant, self._server, self.open(), number)


def _turn(variant: Variant, server: Running, take_turn: TakeTurn, number: int) -> Turn:
    store_ids = [] if server.spec.kind is Kind.STORE else server.store.process_ids
    with placed(server.process_ids, store_ids, pinned=variant.pinned):
        before = [processor_ns([one]) for one in server.process_ids]
        store_before, load_before = processor_ns(store_ids), time.process_time_ns()
        outcome = take_turn(number)
        load_ns = time.process_time_ns() - load_before
        store_ns = processor_ns(store_ids) - store_before
        used = [
            processor_ns([one]) - was for one, was in zip(server.process_ids, before, strict=True)
        ]
    latencies = sorted(outcome.latencies_us)
    each = 1000 * outcome.units

    def quantile(share: float) -> float:
        return latencies[min(int(len(latencies) * share), len(latencies) - 1)] if latencies else 0.0

    return Turn(
        units=outcome.units,
        seconds=outcome.seconds,
        server_us=sum(used) / each,
        busiest_us=max(used, default=0) / each,
        store_us=store_ns / each,
        load_us=load_ns / each,
        p50_us=quantile(0.5),
        p99_us=quantile(0.99),
    )
