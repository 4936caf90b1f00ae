"""The benchmark harness accepts only correct answers: without these checks, a wrong answer would
count as a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import questions
from benchmarks.goals import GOALS, verdicts
from benchmarks.load.answers import Questions, Unavailable, WrongAnswer
from benchmarks.load.loops import Outcome, closed_loop, connected, open_loop
from benchmarks.loads import Closed, TakeTurn
from benchmarks.population import AGENT
from benchmarks.report import write_report
from benchmarks.rounds import Results, Variant, measure
from benchmarks.stage import Kind, ServerSpec, Stage
from benchmarks.suites import QUICK, SUITES, Suites

TINY = replace(
    QUICK,
    rounds=2,
    seconds=0.02,
    users=100,
    batches=1,
    sign_in_devices=(1, 100, 1000),
    collectors=1,
    many_sessions=2_000,
)
SERVICE = ServerSpec()

pytestmark = pytest.mark.slow


def test_the_report_contains_every_measured_figure(stage: Stage, tmp_path: Path):
    results = Results()
    measure(stage, Suites(stage, TINY).table("transports", results), TINY.rounds, results)

    write_report(tmp_path, results, TINY, 1.0)

    figures = json.loads((tmp_path / "report.json").read_text())
    assert [len(turns) for turns in figures["variants"].values()] == [TINY.rounds] * 3
    assert all(
        turn["units"] and turn["server_us"] for turn in figures["variants"]["validation, TLS"]
    )
    report = (tmp_path / "report.md").read_text()
    assert "| validation, mutual TLS + policy | " in report
    [row] = [row for row in figures["goals"] if row["figure"].startswith("with mutual TLS")]
    assert len(row["values"]) == TINY.rounds
    assert row["verdict"] in ("aim reached", "reached", "not reached")


def test_every_goal_is_computed_from_a_variant_that_a_suite_measures(stage: Stage):
    suites, asked = Suites(stage, TINY), set[str]()

    class Asked(Results):
        def series(self, name: str, figure: str) -> list[float]:
            if figure != "fact":
                asked.add(name)
            return []

    measured = {variant.name for name in SUITES for variant in suites.table(name, Results())}
    verdicts(Asked())
    assert asked - measured == set()


def _measured_once(stage: Stage, server: ServerSpec, asked: Questions) -> None:
    measure(stage, [Variant("one", server, Closed(asked, 0.02, 1, 1))], 1, Results())


def test_a_service_that_denies_a_live_session_ends_the_run(stage: Stage):
    people = stage.store("forgetful").population.add(["sami"])
    stage.store("forgetful").client.flushall()
    asked = questions.validations(people)
    server = stage.start(ServerSpec(store="forgetful"))
    try:
        server.until_answered()
        with (
            connected(server.port, asked, 1) as connections,
            pytest.raises(WrongAnswer, match="NO_SESSION"),
        ):
            closed_loop(connections, asked, 1, 1.0)
    finally:
        server.stop()


@pytest.mark.parametrize("path", ["/session_authority.v1.SessionAuthorityService/Nothing"])
def test_a_grpc_error_is_not_counted_as_an_answer(stage: Stage, path: str):
    people = stage.store().population.add(["sami"])
    asked = replace(questions.validations(people), path=path)
    server = stage.start(SERVICE)
    try:
        server.until_answered()
        for loop in (
            lambda connections: closed_loop(connections, asked, 1, 1.0),
            lambda connections: open_loop(connections, asked, 10.0, 1.0),
        ):
            with (
                connected(server.port, asked, 1) as connections,
                pytest.raises(WrongAnswer, match="gRPC status 12"),
            ):
                loop(connections)
    finally:
        server.stop()


def test_an_empty_answer_is_not_counted_as_a_validation(stage: Stage):
    people = stage.store().population.add(["sami"])
    asked = questions.validations(people)
    server = stage.start(ServerSpec(Kind.EMPTY_VALIDATION))
    try:
        server.until_answered()
        with connected(server.port, asked, 1) as connections, pytest.raises(WrongAnswer):
            closed_loop(connections, asked, 1, 1.0)
    finally:
        server.stop()


def test_a_server_that_does_not_start_ends_the_run(stage: Stage):
    spec = ServerSpec(settings=(("TOKEN_TTL", "nonsense"),))
    with pytest.raises(WrongAnswer, match="one: the service ended as it started"):
        _measured_once(stage, spec, questions.signing_keys())


def test_an_unknown_setting_leaves_its_variant_out(stage: Stage):
    results = Results()
    spec = ServerSpec(settings=(("NO_SUCH_SETTING", "1"),))
    measure(stage, [Variant("odd", spec, Closed(questions.signing_keys(), 0.1))], 1, results)
    assert results.skipped == {"odd": "this version has no setting NO_SUCH_SETTING"}
    assert not results.turns


def test_a_batch_larger_than_the_flow_control_window_is_answered(stage: Stage):
    """300 requests with their tokens are larger than the initial flow-control window of a
    connection.
    """
    people = stage.store().population.add([f"many-{number}" for number in range(300)])
    asked = questions.batches(people, 300, with_client=True)
    assert len(asked.payloads[0]) > 100_000
    server = stage.start(SERVICE)
    try:
        server.until_answered()
        with connected(server.port, asked, 1) as connections:
            outcome = closed_loop(connections, asked, 2, 30.0, calls=4)
        assert outcome.units == 4 * 300
    finally:
        server.stop()


class Stumbling:
    """A load whose server is unavailable for the given number of turns."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.opened_times = 0

    @contextmanager
    def opened(self, _: object) -> Iterator[TakeTurn]:
        self.opened_times += 1
        yield self._turn

    def _turn(self, number: int) -> Outcome:
        if number >= 0 and self.left:
            self.left -= 1
            raise Unavailable("not now")
        return Outcome(1, 1.0, [1.0])


def test_a_turn_with_an_unavailable_server_is_repeated(stage: Stage):
    load, results = Stumbling(2), Results()
    measure(stage, [Variant("starved", ServerSpec(Kind.STORE), load)], 2, results)
    assert len(results.turns["starved"]) == 2
    assert load.opened_times == 3
    assert results.facts == {"turns that were taken again": [2.0]}


def test_a_server_that_stays_unavailable_ends_the_run(stage: Stage):
    with pytest.raises(WrongAnswer, match="away: not now"):
        measure(stage, [Variant("away", ServerSpec(Kind.STORE), Stumbling(9))], 1, Results())


def test_the_user_agent_is_as_long_as_the_goal_says():
    assert len(AGENT) == 120


def test_the_aim_of_each_goal_is_at_least_as_strict_as_its_limit():
    for goal in GOALS:
        assert goal.aim >= goal.must if goal.at_least else goal.aim <= goal.must
