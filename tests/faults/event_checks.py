"""Judges events: each event is there once, in a user's order, and no alarm is false."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.history import DAMAGE, Call, Event, History, Kind, Role, first_tellings
from tests.faults.knowledge import Knowledge
from tests.faults.session_checks import LOST

_MADE_BY = {
    "DEVICE_SIGNED_IN": (Kind.SIGN_IN,),
    "DEVICE_REVOKED": (Kind.REVOKE_DEVICE,),
    "ALL_REVOKED": (Kind.REVOKE_ALL,),
    "SESSION_REPLAYED": (Kind.VALIDATE, Kind.RENEW),
}
_MAKES = {kind: event for event, kinds in _MADE_BY.items() for kind in kinds}


def false_alarm(known: Knowledge) -> Iterator[tuple[str, Call | Event]]:
    """There is no alarm without a token that was stolen and presented."""
    calls = {call.number: call for call in known.calls}
    for event in known.history.log:
        call = calls.get(event.call or 0)
        if event.type != "SESSION_REPLAYED":
            continue
        if call is None:
            yield "an alarm that no call made", event
        elif known.robbed_at > call.ended and event.session not in known.stuck:
            yield f"{LOST if known.history.may_lose else ''}an alarm about an honest user", event


def missing_event(known: Knowledge) -> Iterator[tuple[str, Call | Event]]:
    """Exactly one event reports each change of a call, and no event reports a change that was not
    made.
    """
    damaged = any(call.server == DAMAGE for call in known.calls)
    for call in known.calls:
        if call.kind not in _MAKES or call.kind is Kind.SIGN_IN or call.cached:
            continue
        name = _MAKES[call.kind]
        found = sum(event.type == name for event in known.events_of.get(call.number, ()))
        least, most = _expected(call)
        if damaged and not call.failed:
            # A revocation also ends a session whose record can't be read, but does not count it.
            most = 1
        if found < least:
            yield f"{LOST if known.may_be_lost(call) else ''}no {name} event", call
        elif found > most:
            yield f"{found} {name} events, and {most} expected at the most", call


def _expected(call: Call) -> tuple[int, int]:
    """How many events a revocation or a presented token causes: at least, and at most."""
    if call.role is Role.ONLOOKER:
        return 0, 0
    if call.failed:
        return 0, int(call.is_unknown)
    done = call.revoked > 0 if call.kind in (Kind.REVOKE_ALL, Kind.REVOKE_DEVICE) else False
    count = int(done or call.outcome == "REPLAYED")
    return count, count


def wrong_sign_in(known: Knowledge) -> Iterator[tuple[str, Call | Event]]:
    """A sign-in happens once however often it is tried, and one event reports it."""
    lost = LOST if known.history.may_lose else ""
    told = [event for event in known.history.log if event.type == "DEVICE_SIGNED_IN"]
    by_session = {event.session: event for event in told}
    requests = {call.number: call.request for call in known.of(Kind.SIGN_IN)}
    if len(by_session) < len(told):
        yield "two events tell of one sign-in", told[0]
    first: dict[str, Event] = {}
    for event in told:
        request = requests.get(event.call or 0)
        if request is None:
            yield "an event of a sign-in that was never called", event
        elif request in first:
            yield f"{lost}the same request_id signed in twice", event
        else:
            first[request] = event
    answers: dict[str, str] = {}
    for call in known.of(Kind.SIGN_IN):
        if call.given is None:
            continue
        if answers.setdefault(call.request, call.given.session) != call.given.session:
            yield f"{lost}the same request_id led to two sessions", call
        if call.given.session not in by_session:
            yield f"{LOST if known.may_be_lost(call) else ''}no DEVICE_SIGNED_IN event", call


def wrong_order(known: Knowledge) -> Iterator[tuple[str, Call | Event]]:
    """If one call of a user ended before another call started, the log has their events in this
    order.
    """
    calls = {call.number: call for call in known.calls}
    latest_start = float("-inf")
    for event in known.history.log:
        call = calls.get(event.call or 0)
        if call is None or known.is_again(event):
            continue
        if not call.failed and call.ended < latest_start:
            yield "its event comes after that of a later call", event
        latest_start = max(latest_start, call.started)


def untold(history: History) -> Iterator[tuple[str, Event]]:
    """Every watcher gets every event, and a user's events in their order."""
    expected: dict[str, list[str]] = {}
    for event in history.log:
        expected.setdefault(event.user, []).append(event.event_id)
    by_id = {event.event_id: event for event in history.log}
    # After such a fault the log may be another one, so watchers get CURSOR_EXPIRED.
    replaced = any(fault.ends_watches for fault in history.faults)
    for watcher, told in history.told.items():
        heard: dict[str, list[str]] = {}
        for event in first_tellings(told):
            heard.setdefault(event.user, []).append(event.event_id)
            if event.event_id not in by_id:
                prefix = LOST if replaced else ""
                yield f"{prefix}{watcher} was told of an event that is not in the log", event
        for user, wanted in expected.items():
            got = [one for one in heard.get(user, ()) if one in by_id]
            for missed in set(wanted) - set(got):
                yield f"{watcher} was never told", by_id[missed]
            if [one for one in wanted if one in set(got)] != got:
                yield f"{watcher} was told in another order", by_id[wanted[0]]
        if history.broken_watches.get(watcher) and not replaced:
            yield f"{watcher} heard CURSOR_EXPIRED though no store was replaced", history.log[0]
