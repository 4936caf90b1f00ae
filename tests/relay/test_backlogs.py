"""An operator sees how far each endpoint is behind, whichever relay delivers to it."""

from __future__ import annotations

from datetime import timedelta

from session_authority.processes import relay
from session_authority.runtime.relay_metrics import RelayMetrics
from session_authority.store import Backlogs, Deliveries, KeyNames, connect
from tests.relay.harness import PATIENT, RelayHarness
from tests.support.ports import free_port


def shown(metrics: RelayMetrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"session_authority_relay_{name}", {"endpoint": "a"})


async def test_the_backlog_of_an_endpoint_is_shown_while_redis_answers(harness: RelayHarness):
    deliveries = Deliveries(harness.client, harness.keys)
    for number in range(64):
        await deliveries.start_group(number, "a", None)
    look = Backlogs(deliveries)
    await relay.show_backlogs(look, ["a"], harness.metrics)
    names = ("backlog_events", "oldest_undelivered_seconds", "dead_letters")
    assert [shown(harness.metrics, name) for name in names] == [0, 0, 0]
    await harness.happen("ada", "one", "two")
    await harness.happen("bob", "three")
    await relay.show_backlogs(look, ["a"], harness.metrics)
    assert shown(harness.metrics, "backlog_events") == 3
    age = shown(harness.metrics, "oldest_undelivered_seconds")
    assert age is not None
    assert 0 <= age < timedelta(minutes=1).total_seconds()

    gone = connect(f"redis://127.0.0.1:{free_port()}", PATIENT)
    away = Deliveries(gone, KeyNames())
    await relay.show_backlogs(Backlogs(away), ["a"], harness.metrics)
    assert [shown(harness.metrics, name) for name in names] == [None] * 3
    await away.close()
