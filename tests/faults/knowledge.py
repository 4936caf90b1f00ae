"""What a history proves about one user's sessions: when each session began, and which calls may, or
must, have ended it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tests.faults.history import Call, Event, History, Kind, Role

INFINITY = float("inf")
# Seconds. An event happens before the answer of its call. The times of the two come from two
# clocks, so the event may seem to be later by this time.
_AT_ONCE = 0.05


@dataclass(frozen=True, slots=True)
class Session:
    """A session whose sign-in has returned a token."""

    session: str
    device: str
    begun: float
    """When its sign-in was called first."""
    answered: float
    """When its sign-in had answered."""
    number: int
    """The call that answered."""
    request: str


@dataclass(frozen=True, slots=True)
class End:
    """A call that ends sessions, or may have."""

    call: Call
    device: str | None
    """The one device that the call signs out. None if the call signs out all devices but `spares`.
    """
    spares: str | None
    until: float
    """From this time on the call has no effect any more."""

    def covers(self, session: Session) -> bool:
        """Returns whether the call ends this session."""
        if self.call.kind is Kind.SIGN_IN and self.call.request == session.request:
            return False
        if self.device is not None:
            return self.device == session.device
        return self.spares != session.device

    @property
    def is_certain(self) -> bool:
        """Returns whether an answer says that the sessions have ended."""
        return not self.call.failed


class Knowledge:
    """One user's history, and what follows from it."""

    def __init__(self, user: str, history: History) -> None:
        self.user = user
        self.history = history
        self.terms = history.terms
        self.calls = sorted(history.calls, key=lambda call: call.started)

    @cached_property
    def sessions(self) -> dict[str, Session]:
        """The sessions by their ID."""
        begun: dict[str, float] = {}
        for call in self.of(Kind.SIGN_IN):
            begun[call.request] = min(begun.get(call.request, INFINITY), call.started)
        found: dict[str, Session] = {}
        for call in sorted(self.of(Kind.SIGN_IN), key=lambda call: call.ended):
            token = call.given
            if token is not None and token.session not in found:
                found[token.session] = Session(
                    token.session,
                    token.device,
                    begun[call.request],
                    call.ended,
                    call.number,
                    call.request,
                )
        return found

    @cached_property
    def ends(self) -> list[End]:
        """All calls that ended sessions, or may have ended them."""
        return list(self._ends())

    def _ends(self) -> Iterator[End]:
        for call in self.calls:
            if call.role is Role.ONLOOKER or (call.failed and not call.is_unknown):
                continue
            until = self.history.acts_until(call) if call.failed else call.ended
            if call.kind is Kind.REVOKE_ALL:
                yield End(call, None, call.device or None, until)
            elif call.kind in (Kind.REVOKE_DEVICE, Kind.SIGN_IN):
                yield End(call, call.device, None, until)
            elif call.outcome == "REPLAYED" or (call.is_unknown and self.robbed_at < call.ended):
                yield End(call, None, None, until)

    @cached_property
    def robbed_at(self) -> float:
        """When a thief first presented one of this user's tokens."""
        thefts = (call.started for call in self.calls if call.role is Role.THIEF)
        return min(thefts, default=INFINITY)

    @cached_property
    def stuck(self) -> set[str]:
        """Sessions that had a request under way for longer than honest requests are."""
        return {
            call.presented.session
            for call in self.calls
            if call.presented is not None and call.role is Role.HONEST and self._flew_long(call)
        }

    def _flew_long(self, call: Call) -> bool:
        return self.history.lands_at(call) - call.started > self.terms.longest_flight

    @cached_property
    def events_of(self) -> dict[int, list[Event]]:
        """The events in the log by the call that made them."""
        found: dict[int, list[Event]] = defaultdict(list)
        for event in self.history.log:
            if event.call is not None:
                found[event.call].append(event)
        return found

    def of(self, *kinds: Kind) -> Iterator[Call]:
        """The calls of some kinds."""
        return (call for call in self.calls if call.kind in kinds)

    def session_of(self, call: Call) -> Session | None:
        """The session of the presented token, if its sign-in is known."""
        return None if call.presented is None else self.sessions.get(call.presented.session)

    def had_ended(self, session: Session, moment: float) -> End | None:
        """A call that certainly ended the session, and was answered before the moment, if there is
        such a call. A write that the store has lost counts only if the service made it again before
        the moment.
        """
        for end in self.ends:
            if (
                end.is_certain
                and self._holds_from(end.call) < moment
                and session.answered < end.call.started
                and end.covers(session)
            ):
                return end
        return None

    def may_have_ended(self, session: Session, moment: float) -> bool:
        """Returns whether a call may have ended the session before the moment."""
        return any(
            end.call.started < moment and end.until > session.begun and end.covers(session)
            for end in self.ends
        )

    def _holds_from(self, call: Call) -> float:
        """The time from which the change of the call must hold. Infinite if a failover lost it."""
        if self.is_lost(call):
            return INFINITY
        again = [event.at for event in self.events_of.get(call.number, ()) if self.is_again(event)]
        return max((call.ended, *(at + self.terms.settle for at in again)))

    def is_again(self, event: Event) -> bool:
        """Returns whether a failover lost a call's change, and the service made the change again:
        then the event is later than the call's answer.
        """
        call = self._by_number.get(event.call or 0)
        if not self.history.may_lose or call is None or call.replicated:
            return False
        return event.at > call.ended + _AT_ONCE

    def may_be_lost(self, call: Call) -> bool:
        """A failover may have lost the writes of the call: no answer said that replicas have
        them.
        """
        return self.history.may_lose and not call.replicated

    def is_lost(self, call: Call) -> bool:
        """The call was answered, and a failover lost its writes: its event is gone."""
        if not self.may_be_lost(call) or call.failed:
            return False
        if call.kind is Kind.SIGN_IN:
            wanted = call.given.session if call.given is not None else ""
            return wanted not in self._signed_in
        return not self.events_of.get(call.number)

    @cached_property
    def _by_number(self) -> dict[int, Call]:
        return {call.number: call for call in self.calls}

    @cached_property
    def _signed_in(self) -> set[str]:
        log = self.history.log
        return {event.session for event in log if event.type == "DEVICE_SIGNED_IN"}
