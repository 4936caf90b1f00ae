"""A feature that is switched off adds nothing to a validation: the same classes do the same
work.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from session_authority.processes.grpc_server import STANDING_METHODS
from session_authority.rpc import Observer
from session_authority.rpc.observing import BUSY_METHODS, ObservedUnary
from session_authority.rpc.unary import UnaryMethod
from session_authority.runtime import tracing
from session_authority.store.driver.questions import Batch
from session_authority.store.driver.traced_batch import TracedBatch
from tests.rpc.harness import SERVICE, Stage, StageWith
from tests.support.backends import Backend

HANDLER: Any = SimpleNamespace(
    unary_unary=None, request_deserializer=None, response_serializer=None
)


def kind_of(stage: Stage, method: str) -> type[UnaryMethod]:
    """The class of a method's handler, as the server calls it."""
    return type(stage.server._guards[0].unary(f"/{SERVICE.full_name}/{method}", HANDLER))


@pytest.mark.one_acceptor
async def test_without_observers_a_validation_takes_the_plain_handler(stage_with: StageWith):
    quiet, observed = await stage_with(), await stage_with(observer=Observer(access_log=True))
    assert {kind_of(quiet, method) for method in BUSY_METHODS} == {UnaryMethod}
    assert {kind_of(observed, method) for method in BUSY_METHODS} == {ObservedUnary}
    assert kind_of(quiet, "RevokeAll") is ObservedUnary
    assert STANDING_METHODS <= BUSY_METHODS


@pytest.mark.one_acceptor
async def test_without_traces_reads_are_batched_by_the_plain_class(
    stage_with: StageWith, backends: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch
):
    def batches(stage: Stage) -> Any:
        return stage.store._reads._new_batch  # type: ignore[attr-defined]

    assert batches(await stage_with(backends("valkey"))) is Batch
    monkeypatch.setattr(tracing, "_active", object())
    assert batches(await stage_with(backends("valkey"))) is TracedBatch
    monkeypatch.setattr(tracing, "_active", None)
