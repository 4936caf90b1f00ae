"""Judges a history: what must never be in it, whatever was killed, hung or cut.

| check | forbids | needs to know |
|---|---|---|
| `active_after_end` | ACTIVE for a session that has ended: before the call started, the service had answered the revocation, the replay or the new sign-in that ended the session | when calls started and had answered |
| `wrong_refusal` | an honest browser that is signed out, or superseded by nothing | every call that may have ended the session, also those without an answer, which may act until their fault is over; who is a thief |
| `elsewhere` | a token that is good on another device | the device that a token was made for |
| `missed_replay` | a token that is long superseded, and is let in or quietly denied | which tokens were handed out and used, and `DURABLE_AFTER`, `ALARM_AFTER` |
| `foreign_answer` | another user's, device's or session's answer; a generation that skips one | what a token says |
| `wrong_list` | a list that lacks a live session, or has an ended one | the same as the first two |
| `blind_revoke` | a revocation that finds nothing where a session lives | the same |
| `false_alarm` | an alarm about a user from whom nothing was stolen | who is a thief; which requests were under way for too long |
| `missing_event` | a revocation or a replay with no event, or with two | the call that an event names |
| `wrong_sign_in` | a `request_id` that signs in twice; a sign-in with no event, or with two | `request_id`s |
| `wrong_order` | a later call's event before an earlier call's | the order of the log |
| `untold` | an event that a watcher was never told, or in another order | the log, and what each watcher was told |
| `wrong_error` | errors that no fault excuses: INTERNAL, INVALID_ARGUMENT, … | the contract's errors |

Where an asynchronous failover may lose acknowledged writes, the lost writes are counted apart, as
`lost`. A write is lost if its event is not in the log at the end: both are one atomic step. If an
answer said REPLICATED, the write must not be lost. A failover may lose a revocation, and the
service may carry it out again: the revocation then holds from this second time on, and its event
has this time.
Errors outside of faults are counted, and are no violations: they depend on how fast a machine is.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults import event_checks, session_checks
from tests.faults.history import Call, Event, History
from tests.faults.knowledge import Knowledge

# Errors that a call may have during a fault, or because other calls were faster.
ALLOWED_ERRORS = {
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"),
    *("ABORTED", "RESOURCE_EXHAUSTED"),
}


def wrong_error(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """A call fails only as the contract says."""
    for call in known.calls:
        if call.failed and call.outcome not in ALLOWED_ERRORS:
            yield f"{call.outcome} {call.reason}".strip(), call


BY_USER = {
    check.__name__: check
    for check in (
        session_checks.active_after_end,
        session_checks.wrong_refusal,
        session_checks.elsewhere,
        session_checks.missed_replay,
        session_checks.foreign_answer,
        session_checks.wrong_list,
        session_checks.blind_revoke,
        event_checks.false_alarm,
        event_checks.missing_event,
        event_checks.wrong_sign_in,
        event_checks.wrong_order,
        wrong_error,
    )
}
OVERALL = {check.__name__: check for check in (event_checks.untold,)}
CHECKS = (*BY_USER, *OVERALL)


@dataclass(frozen=True, slots=True)
class Violation:
    """A part of the history that breaks a promise."""

    check: str
    what: str
    where: Call | Event

    def __str__(self) -> str:
        return f"{self.check}: {self.what}: {self.where}"


@dataclass
class Report:
    """What a checker found."""

    violations: list[Violation] = field(default_factory=list)
    lost: list[Violation] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    """The number of calls by kind and outcome."""
    late_errors: int = 0
    """Errors outside of faults, and outside of the two seconds after a fault. Cancelled calls are
    left out.
    """

    @property
    def broken(self) -> set[str]:
        """The checks that found a violation."""
        return {violation.check for violation in self.violations}


def judge(history: History) -> Report:
    """Applies every check."""
    report = Report()
    for user, part in history.by_user().items():
        known = Knowledge(user, part)
        for name, check in BY_USER.items():
            for what, where in check(known):
                _add(report, name, what, where)
    for name, check_all in OVERALL.items():
        for what, where in check_all(history):
            _add(report, name, what, where)
    for call in history.calls:
        report.calls[f"{call.kind.value} {call.outcome}"] += 1
        if call.failed and call.outcome != "CANCELLED" and not history.in_fault(call.ended):
            report.late_errors += 1
    return report


def _add(report: Report, check: str, what: str, where: Call | Event) -> None:
    lost = what.startswith(session_checks.LOST)
    found = Violation(check, what.removeprefix(session_checks.LOST), where)
    (report.lost if lost else report.violations).append(found)
