"""The rules of the near cache, tested with the cases that the clients of all languages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from client_tests.vectors import Case, each
from session_authority_client.cache import NearCache, Ticket
from session_authority_client.types import Session, SessionStatus, Validation
from session_authority_client.wire import session_authority_pb2 as pb

_Step = Mapping[str, Any]


def at(seconds: float) -> datetime:
    """Returns the moment that a step names."""
    return datetime.fromtimestamp(seconds, UTC)


def answer_of(said: Mapping[str, Any]) -> Validation:
    """Returns the answer of the service that a step stores."""
    session, of = None, said["session"]
    if of is not None:
        ends = at(of["token_expires_at"]), at(of["expires_at"])
        session = Session(of["user_id"], "", of["session_id"], 1, {}, (), at(0), *ends)
    status, renew = SessionStatus[said["status"]], said["renew_recommended"]
    return Validation(said["active"], status, "", False, session, renew, 0)


def message_of(step: _Step) -> pb.WatchEventsResponse:
    """Returns the message of the watch in a step."""
    message = pb.WatchEventsResponse()
    for said in step["events"]:
        kind: Any = said["type"]
        if isinstance(kind, str):
            kind = pb.EventType.Value(f"EVENT_TYPE_{kind}")
        message.events.add(type=kind, user_id=said["user_id"])
    for field in ("read_uptime", "read_time"):
        if step[field] is not None:
            getattr(message, field).FromNanoseconds(round(step[field] * 1e9))
    return message


class Player:
    """A cache with the clocks of the steps, and the tickets that the cache has given."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.step: _Step = {}
        self._tickets: dict[str, Ticket] = {}
        self.cache = NearCache(
            max_entries=settings["max_entries"],
            max_age=timedelta(seconds=settings["max_age_seconds"]),
            max_silence=timedelta(seconds=settings["max_silence_seconds"]),
            clock=lambda: self.step["at"],
            wall_clock=lambda: self.step["wall"],
        )
        self._does: Mapping[str, Callable[[_Step], Any]] = {
            "begin_watch": lambda _: self.cache.begin(),
            "watch_message": lambda step: self.cache.tell(message_of(step)),
            "lose_watch": lambda step: self.cache.lost(history_gone=step["history_gone"]),
            "take_ticket": self._take_ticket,
            "store": self._store,
            "get": lambda step: self.cache.get(step["token"], step["device_id"]) is not None,
            "discard": lambda step: self.cache.discard(step["token"], step["device_id"]),
            "forget_user": lambda step: self.cache.forget_user(step["user_id"]),
            "clear": lambda _: self.cache.clear(),
            "seconds_left": lambda _: pytest.approx(self.cache.seconds_left(), abs=1e-6),
        }

    def play(self, step: _Step) -> Any:
        """Does one step. Returns its result."""
        self.step = step
        return self._does[step["do"]](step)

    def _take_ticket(self, step: _Step) -> bool:
        ticket = self.cache.ticket()
        if ticket is not None:
            self._tickets[step["as"]] = ticket
        return ticket is not None

    def _store(self, step: _Step) -> bool:
        ticket, answer = self._tickets.get(step["ticket"]), answer_of(step["answer"])
        if ticket is None:  # without a ticket, a client stores nothing
            return False
        return self.cache.store(ticket, step["token"], step["device_id"], answer)


@each("cache")
def test_entries_are_kept_and_dropped_as_the_shared_cases_say(case: Case) -> None:
    player, results = Player(case.settings), {}
    for step in case.given["steps"]:
        found = player.play(step)
        if "as" in step:
            results[step["as"]] = found
    stats = player.cache.stats()
    assert {
        "results": results,
        "live": stats.live,
        "entries": stats.entries,
        "dropped": stats.dropped,
    } == case.expected
