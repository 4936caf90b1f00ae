"""Plans a billion sessions and a million validations a second from the costs of a run.

Measures nothing: every figure comes from `report.json`, and every assumption is a field of `Plan`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from session_authority.store.key_names import PARTITIONS

_BEGIN, _END = "<!-- plan: begin -->", "<!-- plan: end -->"
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """The load of the plan, and how much of each resource it may use."""

    sessions: int = 1_000_000_000
    validations_a_second: int = 1_000_000
    # Of a core. The rest handles bursts, and the loss of a machine.
    busy_share: float = 0.6
    # Of a machine's memory. The rest is for rewriting the store's file, for replicas and for
    # fragmentation.
    memory_share: float = 0.6
    machine_gib: int = 16
    # `TOUCH_INTERVAL`: the default, and a value that suits such a load.
    usual_touch_seconds: int = 60
    touch_seconds: int = 3600


def _figure(figures: Mapping[str, Any], variant: str, name: str) -> float:
    return float(statistics.median(turn[name] for turn in figures["variants"][variant]))


def plan_table(figures: Mapping[str, Any], plan: Plan) -> str:
    """Returns the plan as a table in Markdown."""
    rate = plan.validations_a_second
    facts = {name: statistics.median(values) for name, values in figures["facts"].items()}

    def cores(variant: str, name: str) -> int:
        return math.ceil(rate * _figure(figures, variant, name) / 1e6 / plan.busy_share)

    def memory(fact: str) -> float:
        return plan.sessions * float(facts[fact]) / _GIB

    full, packed = (memory(f"bytes of a session with its device{how}") for how in ("", ", packed"))
    usable_gib = plan.machine_gib * plan.memory_share
    store_us = _figure(figures, "validation", "store_us")
    requests = rate * facts["bytes of a request"] * 8 / 1e9
    answers = rate * facts["bytes of an answer"] * 8 / 1e9
    touch_us = _figure(figures, "first sight, batched", "store_us") - _figure(
        figures, "batch of 100", "store_us"
    )

    def touches(seconds: int) -> float:
        return min(rate, plan.sessions / seconds)

    def touching_cores(seconds: int) -> float:
        return touches(seconds) * max(touch_us, 0.0) / 1e6 / plan.busy_share

    reading_cores = rate * store_us / 1e6 / plan.busy_share
    store_cores = reading_cores + touching_cores(plan.touch_seconds)
    primaries = math.ceil(max(packed / usable_gib, store_cores))
    usual, planned = plan.usual_touch_seconds, plan.touch_seconds
    rows = [
        ("cores of servers, one call a validation", f"{cores('validation', 'server_us'):,}"),
        (
            "cores of servers, the Python client's batches",
            f"{cores('Python client, 64 callers', 'server_us'):,}",
        ),
        ("cores of servers, batches of 100", f"{cores('batch of 100', 'server_us'):,}"),
        (
            "cores of servers, batches of 100 tokens that are new to the process",
            f"{cores('first sight, batched', 'server_us'):,}",
        ),
        ("cores of Redis for the reads", f"{cores('validation', 'store_us'):,}"),
        ("memory of Redis, primaries alone", f"{full:,.0f} GiB"),
        ("memory of Redis with `hash-max-listpack-value 512`", f"{packed:,.0f} GiB"),
        (
            f"primaries of {plan.machine_gib} GiB for this memory, at most {PARTITIONS}",
            f"{primaries:,}",
        ),
        ("sessions of each primary", f"{plan.sessions / primaries:,.0f}"),
        ("network from callers to servers", f"{requests:,.1f} Gbit/s"),
        ("network from servers to callers", f"{answers:,.1f} Gbit/s"),
        ("last-seen times to write, `TOUCH_INTERVAL=1h`", f"{touches(planned):,.0f}/s"),
        (
            "cores of Redis for these writes, `TOUCH_INTERVAL=1h`",
            f"{math.ceil(touching_cores(planned)):,}",
        ),
        (
            "cores of Redis for these writes, `TOUCH_INTERVAL=1m`, the default",
            f"{math.ceil(touching_cores(usual)):,}",
        ),
    ]
    return "\n".join(["| what | how much |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def with_plan(page: str, figures: Mapping[str, Any]) -> str:
    """Returns the page with a new plan from these figures."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{plan_table(figures, Plan())}\n{_END}{after}"
