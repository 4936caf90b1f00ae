"""Decides whether one user's calls could have happened one after the other.

Each call happens at one moment between its start and its end. For some choice of these moments, all
answers must be right. A call without an answer happens at some moment after its start, or never.
The state is the live session of each device. A search tries all orders (Wing and Gong). The search
is for short histories of one user without thieves, in which tokens are not old enough to be
superseded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from tests.faults.history import Call, Kind, Role

State = frozenset[tuple[str, str]]
"""Devices with their live sessions."""
_NONE: Mapping[int, str] = MappingProxyType({})
# Answers about a session that another session has replaced.
_REPLACED = {"SESSION_ENDED", "SUPERSEDED"}


def is_linearizable(calls: Sequence[Call], unanswered: Mapping[int, str] = _NONE) -> bool:
    """Returns True if some order explains all answers. `unanswered` has the sessions of sign-ins
    without an answer, by the number of the call, as far as the log shows them.
    """
    calls = [replace(call, request=unanswered.get(call.number, call.request)) for call in calls]
    ordered = sorted(calls, key=lambda call: call.started)
    must = frozenset(number for number, call in enumerate(ordered) if not call.is_unknown)
    return _search(ordered, frozenset(range(len(ordered))), must, frozenset(), set())


def _search(
    calls: Sequence[Call],
    left: frozenset[int],
    must: frozenset[int],
    state: State,
    seen: set[tuple[frozenset[int], State]],
) -> bool:
    if not left & must:
        return True
    if (left, state) in seen:
        return False
    seen.add((left, state))
    first_end = min(calls[number].ended for number in left & must)
    return any(
        _search(calls, left - {number}, must, after, seen)
        for number in sorted(left)
        if calls[number].started <= first_end
        for after in _states_after(calls[number], state)
    )


def _states_after(call: Call, state: State) -> Iterator[State]:
    """The states that the call may have led to. There are none if its answer is wrong in this
    state.
    """
    live = dict(state)
    if call.failed and not call.is_unknown:
        yield state
    elif call.kind is Kind.SIGN_IN:
        new = call.given.session if call.given else call.request
        yield frozenset((live | {call.device: new}).items())
    elif call.kind is Kind.REVOKE_DEVICE:
        if call.is_unknown or bool(call.revoked) == (call.device in live):
            yield frozenset((d, s) for d, s in state if d != call.device)
    elif call.kind is Kind.REVOKE_ALL:
        spared = frozenset((d, s) for d, s in state if d == call.device)
        if call.is_unknown or call.revoked == len(state - spared):
            yield spared
    elif call.kind is Kind.LIST:
        if call.is_unknown or frozenset(call.listed) == state:
            yield state
    elif call.is_unknown or _is_right(call, live):
        yield state


def _is_right(call: Call, live: dict[str, str]) -> bool:
    """Returns whether a token was rightly accepted or refused."""
    token = call.presented
    assert token is not None
    assert call.role is not Role.THIEF
    holder = live.get(token.device)
    if call.outcome == "ACTIVE":
        return holder == token.session
    if call.outcome == "NO_SESSION":
        return holder is None
    return call.outcome in _REPLACED and holder not in (None, token.session)
