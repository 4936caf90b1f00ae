"""The checker, on histories that are written by hand: each check finds what it forbids, and accepts
what the docs allow.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.faults.checker import CHECKS, Report, judge
from tests.faults.history import (
    DAMAGE,
    Call,
    Event,
    Fault,
    History,
    Kind,
    Named,
    Role,
    Terms,
    Token,
)

TERMS = Terms(durable_after=3, alarm_after=9, longest_flight=3.5)
ADA, PHONE, LAPTOP, THIEVES = "ada", "phone", "laptop", "thieves"
MADE_BY = {
    Kind.SIGN_IN: "DEVICE_SIGNED_IN",
    Kind.REVOKE_ALL: "ALL_REVOKED",
    Kind.REVOKE_DEVICE: "DEVICE_REVOKED",
}


class Story:
    """Writes a history call by call. Each call takes 0.1 s unless the test says otherwise."""

    def __init__(self) -> None:
        self.history = History(TERMS)
        self._numbers = count(1)

    def call(self, kind: Kind, at: float, outcome: str = "OK", **more: Any) -> Call:
        """Records a call, and its event if the call changed something."""
        values: dict[str, Any] = {"user": ADA, "device": PHONE, "role": Role.HONEST}
        values |= {"server": "one", "ended": at + 0.1}
        tells = more.pop("tells", outcome == "OK" and (kind is Kind.SIGN_IN or more.get("revoked")))
        made = Call(next(self._numbers), kind, started=at, outcome=outcome, **values | more)
        self.history.calls.append(made)
        if tells and kind in MADE_BY:
            self.event(MADE_BY[kind], made)
        return made

    def event(self, name: str, call: Call) -> None:
        """Adds an event to the log."""
        token = call.given or call.presented
        session = token.session if token else ""
        number = str(len(self.history.log))
        self.history.log.append(Event(number, name, call.user, session, call.number))

    def sign_in(self, at: float, session: str = "s1", device: str = PHONE, **more: Any) -> Token:
        """Records an answered sign-in."""
        token = Token(ADA, device, session, 1, "a")
        named = Named(ADA, device, session, 1)
        values: dict[str, Any] = {"request": f"request of {session}", "given": token}
        self.call(Kind.SIGN_IN, at, device=device, **values | {"named": named} | more)
        return token

    def validate(self, token: Token, at: float, outcome: str = "ACTIVE", **more: Any) -> Call:
        """Records a validation."""
        named = Named(token.user, token.device, token.session, token.generation)
        more = {"named": named if outcome == "ACTIVE" else None, "device": token.device} | more
        return self.call(Kind.VALIDATE, at, outcome, presented=token, **more)

    def renew(self, token: Token, at: float, copy: str = "b", by: int = 1) -> Token:
        """Records a renewal."""
        given = replace(token, generation=token.generation + by, copy=copy)
        named = Named(token.user, token.device, token.session, given.generation)
        more: dict[str, Any] = {"given": given, "named": named, "device": token.device}
        self.call(Kind.RENEW, at, "ACTIVE", presented=token, **more)
        return given

    def judged(self) -> Report:
        """The report of the checker."""
        return judge(self.history)


@pytest.fixture
def story() -> Story:
    return Story()


def test_an_ordinary_history_breaks_nothing(story: Story) -> None:
    token = story.sign_in(0)
    story.validate(token, 1)
    newer = story.renew(token, 10)
    story.validate(token, 10.2)
    story.validate(newer, 14)
    story.validate(token, 15, "SUPERSEDED")
    story.call(Kind.LIST, 16, listed=((PHONE, "s1"),))
    story.call(Kind.REVOKE_ALL, 20, device="", revoked=1)
    story.validate(newer, 21, "NO_SESSION")
    story.call(Kind.REVOKE_ALL, 22, device="")
    story.history.told["w"] = [*story.history.log, story.history.log[0]]
    report = story.judged()
    assert [str(violation) for violation in report.violations] == []
    assert report.calls["ValidateSession ACTIVE"] == 3


# ----- each check finds what it forbids


def _active_after_revoke_all(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1)
    story.validate(token, 1.2)


def _active_after_revoke_device(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_DEVICE, 1, revoked=1)
    story.validate(token, 1.2, role=Role.ONLOOKER)


def _active_after_a_replay(story: Story) -> None:
    token = story.sign_in(0)
    other = story.sign_in(1, "s2", LAPTOP)
    caught = story.validate(token, 2, "REPLAYED", role=Role.THIEF, device=THIEVES)
    story.event("SESSION_REPLAYED", caught)
    story.validate(other, 3)


def _active_after_another_sign_in(story: Story) -> None:
    token = story.sign_in(0)
    story.sign_in(1, "s2")
    story.validate(token, 2)


def _cached_for_too_long(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1)
    story.validate(token, 16.2, cached=True)


def _signed_out_by_nobody(story: Story) -> None:
    story.validate(story.sign_in(0), 1, "NO_SESSION")


def _signed_out_before_it_was_revoked(story: Story) -> None:
    token = story.sign_in(0)
    story.validate(token, 1, "NO_SESSION")
    story.call(Kind.REVOKE_ALL, 2, device="", revoked=1)


def _signed_out_by_a_revoke_of_another_device(story: Story) -> None:
    token = story.sign_in(0)
    story.sign_in(1, "s2", LAPTOP)
    story.call(Kind.REVOKE_ALL, 2, device=PHONE, revoked=1)
    story.validate(token, 3, "NO_SESSION")


def _signed_out_by_a_refused_revoke(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, "UNAVAILABLE", device="", reason="DEADLINE_TOO_SHORT")
    story.validate(token, 2, "NO_SESSION")


def _honest_and_replayed(story: Story) -> None:
    story.event("SESSION_REPLAYED", story.validate(story.sign_in(0), 1, "REPLAYED"))


def _superseded_by_nothing(story: Story) -> None:
    story.validate(story.sign_in(0), 1, "SUPERSEDED")


def _good_elsewhere(story: Story) -> None:
    token = story.sign_in(0)
    named = Named(ADA, THIEVES, "s1", 1)
    story.validate(token, 1, device=THIEVES, role=Role.THIEF, named=named)


def _two_generations_on(story: Story) -> None:
    old = story.sign_in(0)
    story.renew(story.renew(old, 10), 20)
    story.validate(old, 21, "SUPERSEDED", role=Role.THIEF)


def _long_in_use(story: Story) -> None:
    old = story.sign_in(0)
    newer = story.renew(old, 10)
    for moment in (15, 16, 17):
        story.validate(newer, moment)
    story.validate(old, 28, role=Role.THIEF)


def _left_its_device(story: Story) -> None:
    token = story.sign_in(0)
    story.validate(token, 1, "WRONG_DEVICE", device=THIEVES, role=Role.THIEF)


def _named_another(story: Story) -> None:
    story.validate(story.sign_in(0), 1, named=Named("ben", PHONE, "s9", 1))


def _token_of_another(story: Story) -> None:
    story.sign_in(0, given=Token("ben", PHONE, "s1", 1, "a"))


def _skipped_a_generation(story: Story) -> None:
    story.renew(story.sign_in(0), 10, by=2)


def _listed_after_its_end(story: Story) -> None:
    story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1)
    story.call(Kind.LIST, 2, listed=((PHONE, "s1"),))


def _not_listed(story: Story) -> None:
    story.sign_in(0)
    story.call(Kind.LIST, 2)


def _listed_for_another(story: Story) -> None:
    story.call(Kind.LIST, 2, listed=((PHONE, "s9"),))


def _revoked_nothing(story: Story) -> None:
    story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="")


def _revoked_without_an_event(story: Story) -> None:
    story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1, tells=False)


def _revoked_with_two_events(story: Story) -> None:
    story.sign_in(0)
    story.event("ALL_REVOKED", story.call(Kind.REVOKE_ALL, 1, device="", revoked=1))


def _caught_without_an_event(story: Story) -> None:
    story.validate(story.sign_in(0), 1, "REPLAYED", role=Role.THIEF, device=THIEVES)


def _caught_twice(story: Story) -> None:
    caught = story.validate(story.sign_in(0), 1, "REPLAYED", role=Role.THIEF, device=THIEVES)
    story.event("SESSION_REPLAYED", caught)
    story.event("SESSION_REPLAYED", caught)


def _signed_in_without_an_event(story: Story) -> None:
    story.sign_in(0, tells=False)


def _signed_in_twice_for_one_request(story: Story) -> None:
    story.sign_in(0, request="r")
    story.sign_in(1, "s2", request="r")


def _events_in_another_order(story: Story) -> None:
    story.sign_in(0)
    story.sign_in(1, "s2", LAPTOP)
    story.history.log.reverse()


def _never_told(story: Story) -> None:
    story.sign_in(0)
    story.history.told["w"] = []


def _told_in_another_order(story: Story) -> None:
    story.sign_in(0)
    story.sign_in(1, "s2", LAPTOP)
    story.history.told["w"] = story.history.log[::-1]


def _told_of_nothing(story: Story) -> None:
    story.sign_in(0)
    story.history.told["w"] = [*story.history.log, Event("9", "ALL_REVOKED", ADA)]


def _a_watch_broke_for_no_reason(story: Story) -> None:
    story.sign_in(0)
    story.history.told["w"] = list(story.history.log)
    story.history.broken_watches["w"] = 1


def _internal(story: Story) -> None:
    story.call(Kind.LIST, 0, "INTERNAL")


FORBIDDEN = {
    _active_after_revoke_all: "active_after_end",
    _active_after_revoke_device: "active_after_end",
    _active_after_a_replay: "active_after_end",
    _active_after_another_sign_in: "active_after_end",
    _cached_for_too_long: "active_after_end",
    _signed_out_by_nobody: "wrong_refusal",
    _signed_out_before_it_was_revoked: "wrong_refusal",
    _signed_out_by_a_revoke_of_another_device: "wrong_refusal",
    _signed_out_by_a_refused_revoke: "wrong_refusal",
    _honest_and_replayed: "wrong_refusal false_alarm",
    _superseded_by_nothing: "wrong_refusal",
    _good_elsewhere: "elsewhere",
    _two_generations_on: "missed_replay",
    _long_in_use: "missed_replay",
    _left_its_device: "missed_replay",
    _named_another: "foreign_answer",
    _token_of_another: "foreign_answer",
    _skipped_a_generation: "foreign_answer",
    _listed_after_its_end: "wrong_list",
    _not_listed: "wrong_list",
    _listed_for_another: "wrong_list",
    _revoked_nothing: "blind_revoke",
    _revoked_without_an_event: "missing_event",
    _revoked_with_two_events: "missing_event",
    _caught_without_an_event: "missing_event",
    _caught_twice: "missing_event",
    _signed_in_without_an_event: "wrong_sign_in",
    _signed_in_twice_for_one_request: "wrong_sign_in",
    _events_in_another_order: "wrong_order",
    _never_told: "untold",
    _told_in_another_order: "untold",
    _told_of_nothing: "untold",
    _a_watch_broke_for_no_reason: "untold",
    _internal: "wrong_error",
}


@pytest.mark.parametrize("write", FORBIDDEN, ids=lambda write: write.__name__.strip("_"))
def test_the_checker_finds(story: Story, write: Any) -> None:
    write(story)
    report = story.judged()
    assert report.broken == set(FORBIDDEN[write].split())
    assert report.lost == []


def test_every_check_has_a_history_that_it_forbids() -> None:
    assert {check for checks in FORBIDDEN.values() for check in checks.split()} == set(CHECKS)


# ----- what the docs allow


def _a_call_that_overlaps_the_revocation(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1, ended=2.0)
    story.validate(token, 1.9)


def _a_sign_in_that_overlaps_the_revocation(story: Story) -> None:
    story.call(Kind.REVOKE_ALL, 1, device="", ended=2.0)
    token = story.sign_in(1.5)
    story.validate(token, 3)


def _a_revocation_without_an_answer(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, "UNAVAILABLE", device="", reason="STORE_UNAVAILABLE")
    story.validate(token, 2)
    story.validate(token, 3, "NO_SESSION")


def _a_revocation_that_a_stopped_store_carries_out(story: Story) -> None:
    story.history.faults.append(Fault("store stopped", 0.5, 30))
    story.call(Kind.REVOKE_ALL, 1, "UNAVAILABLE", device="", reason="STORE_UNAVAILABLE", tells=True)
    story.validate(story.sign_in(28), 32, "NO_SESSION")


def _a_cached_answer_within_its_bound(story: Story) -> None:
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1)
    story.validate(token, 15.9, cached=True)


def _an_alarm_after_a_theft(story: Story) -> None:
    old = story.sign_in(0)
    story.validate(old, 1, role=Role.THIEF)
    story.renew(old, 10)
    caught = story.validate(old, 30, "REPLAYED")
    story.event("SESSION_REPLAYED", caught)
    story.validate(old, 31, "NO_SESSION", role=Role.THIEF)


def _a_retried_sign_in(story: Story) -> None:
    failed = story.call(Kind.SIGN_IN, 0, "UNAVAILABLE", request="r", reason="STORE_UNAVAILABLE")
    token = story.sign_in(1, request="r", tells=False)
    story.history.log.append(Event("0", "DEVICE_SIGNED_IN", ADA, "s1", failed.number))
    story.validate(token, 2)


def _a_request_that_was_stuck(story: Story) -> None:
    old = story.sign_in(0)
    newer = story.renew(old, 10)
    story.validate(newer, 20)
    stuck = story.validate(old, 19, "REPLAYED", ended=31.0)
    story.event("SESSION_REPLAYED", stuck)


def _a_live_session_at_a_thief_who_is_not_found_out(story: Story) -> None:
    token = story.sign_in(0)
    story.validate(token, 1, role=Role.THIEF)
    story.validate(token, 2)


def _a_revocation_of_what_cant_be_read(story: Story) -> None:
    story.sign_in(0)
    story.call(Kind.REVOKE_DEVICE, 1, "UNAVAILABLE", server=DAMAGE, ended=1)
    story.event("ALL_REVOKED", story.call(Kind.REVOKE_ALL, 2, device=""))


ALLOWED = (
    _a_revocation_of_what_cant_be_read,
    _a_call_that_overlaps_the_revocation,
    _a_sign_in_that_overlaps_the_revocation,
    _a_revocation_without_an_answer,
    _a_revocation_that_a_stopped_store_carries_out,
    _a_cached_answer_within_its_bound,
    _an_alarm_after_a_theft,
    _a_retried_sign_in,
    _a_request_that_was_stuck,
    _a_live_session_at_a_thief_who_is_not_found_out,
)


@pytest.mark.parametrize("write", ALLOWED, ids=lambda write: write.__name__.strip("_"))
def test_the_checker_allows(story: Story, write: Any) -> None:
    write(story)
    report = story.judged()
    assert [str(violation) for violation in report.violations] == []
    assert report.lost == []


# ----- what a failover may lose


def test_a_lost_revocation_is_counted_as_lost(story: Story) -> None:
    story.history.faults.append(Fault("primary killed", 1, 5, loses_writes=True))
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1, tells=False)
    story.validate(token, 6)
    report = story.judged()
    assert report.violations == []
    assert [found.check for found in report.lost] == ["missing_event"]


def test_a_lost_sign_in_is_counted_as_lost(story: Story) -> None:
    story.history.faults.append(Fault("primary killed", 1, 5, loses_writes=True))
    story.validate(story.sign_in(0, tells=False), 6, "NO_SESSION")
    report = story.judged()
    assert report.violations == []
    assert {found.check for found in report.lost} == {"wrong_sign_in", "wrong_refusal"}


def test_an_event_that_a_restarted_store_forgot_is_counted_as_lost(story: Story) -> None:
    story.history.faults.append(Fault("store killed", 1, 2, ends_watches=True))
    story.sign_in(0)
    story.history.told["w"] = [*story.history.log, Event("9", "ENDED_TOKEN_PRESENTED", ADA)]
    report = story.judged()
    assert report.violations == []
    assert [found.check for found in report.lost] == ["untold"]


def test_a_revocation_that_was_kept_holds_after_a_failover(story: Story) -> None:
    story.history.faults.append(Fault("primary hung", 1, 5, loses_writes=True))
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 4, device="", revoked=1)
    story.validate(token, 6)
    assert story.judged().broken == {"active_after_end"}


def test_a_revocation_that_replicas_have_is_never_lost(story: Story) -> None:
    story.history.faults.append(Fault("primary killed", 1, 5, loses_writes=True))
    token = story.sign_in(0)
    story.call(Kind.REVOKE_ALL, 1, device="", revoked=1, tells=False, replicated=True)
    story.validate(token, 6)
    report = story.judged()
    assert report.broken == {"missing_event", "active_after_end"}
    assert report.lost == []


def test_a_sign_in_that_replicas_have_is_never_lost(story: Story) -> None:
    story.history.faults.append(Fault("primary killed", 1, 5, loses_writes=True))
    story.validate(story.sign_in(0, tells=False, replicated=True), 6, "NO_SESSION")
    report = story.judged()
    assert report.broken == {"wrong_sign_in", "wrong_refusal"}
    assert report.lost == []


def test_a_revocation_that_was_made_again_holds_from_then_on(story: Story) -> None:
    story.history.faults.append(Fault("primary killed", 1, 5, loses_writes=True))
    token = story.sign_in(0)
    revoked = story.call(Kind.REVOKE_ALL, 1, device="", revoked=1, tells=False)
    other = story.sign_in(5, "s2", LAPTOP)
    story.history.log.append(Event("9", "ALL_REVOKED", ADA, "s1", revoked.number, at=6))
    story.validate(token, 5.9)
    story.validate(other, 7)
    assert [str(violation) for violation in story.judged().violations] == []
    story.validate(token, 6 + TERMS.settle + 0.1)
    assert story.judged().broken == {"active_after_end"}


def test_errors_outside_of_faults_are_counted(story: Story) -> None:
    story.history.faults.append(Fault("store stopped", 1, 5))
    for moment in (0.5, 1.5, 6.5, 7.5):
        story.call(Kind.LIST, moment, "UNAVAILABLE", reason="STORE_UNAVAILABLE")
    report = story.judged()
    assert report.violations == []
    assert report.late_errors == 2
