"""Keeps the facts of each connection: its caller, its last use, and the answers that its peer has
not read.

An answer that the peer does not read waits in gRPC's core, together with its call. It blocks no
other call, but it occupies memory. So this module names the peers that do not read, and another
module closes their connections. This module does not know sockets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

import grpc

# The peer must read an answer within this time, or the connection is closed.
MAX_ANSWER_SECONDS = 10.0
# The limit of unread answers of all peers together. Each answer occupies about 15 KiB.
MAX_UNSENT_ANSWERS = 1000
# An answer that has waited for a shorter time does not count as unread. It may belong to a burst of
# calls from a peer that does read its answers.
_AT_ONCE_SECONDS = 1.0
# When this many peers are remembered, all peers without calls under way are forgotten.
_MAX_REMEMBERED = 10_000


class Peer:
    """The other side of one connection. `caller` is the name of the caller that was admitted last
    on the connection, or None if no caller was admitted. `calls` counts the peer's calls whose
    answers are not sent yet.
    """

    __slots__ = ("caller", "calls", "last_call_at", "name", "watches")

    def __init__(self, name: str) -> None:
        self.name = name
        self.caller: str | None = None
        self.calls = 0
        self.last_call_at = 0.0
        self.watches = 0


class Peers:
    """The peers that have made calls, by the names that gRPC gives them."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        # The start of the wait and the peer, for each call (or its task) whose answer waits. The
        # oldest entry is first.
        self._unsent: dict[object, tuple[float, Peer]] = {}

    def enter(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        """Counts a call that arrives. Returns the peer of the call."""
        name: str = context.peer()
        peer = self._peers.get(name)
        if peer is None:
            peer = self._remember(name)
        peer.calls += 1
        peer.last_call_at = monotonic()
        return peer

    def leave(self, peer: Peer, call: object) -> None:
        """Notes that the handler of a call has ended. From now until `sent` is called, the answer
        waits for the peer to read it.
        """
        self._unsent[call] = (monotonic(), peer)

    def leave_with_task(self, peer: Peer) -> None:
        """Notes that the handler of the running task's call has ended. The answer counts as sent
        when the task ends.
        """
        task = asyncio.current_task()
        assert task is not None
        self.leave(peer, task)
        task.add_done_callback(self.sent)

    def sent(self, call: object) -> None:
        """Notes that the answer of a call is sent, or that the caller no longer waits for the
        answer.
        """
        _, peer = self._unsent.pop(call)
        peer.calls -= 1

    def get(self, name: str) -> Peer | None:
        """Returns the facts of a peer, or None if the peer is not known."""
        return self._peers.get(name)

    def slow(self, now: float) -> set[str]:
        """Returns the names of the peers that do not read their answers. A peer is slow if one of
        its answers has waited too long. If more than MAX_UNSENT_ANSWERS answers wait, the peers
        with the most waiting answers are slow, too. `now` is a time of the monotonic clock, in
        seconds.
        """
        found = set()
        waiting: Counter[str] = Counter()
        for since, peer in self._unsent.values():
            if now - since <= _AT_ONCE_SECONDS:
                break  # The answers are in the order of age, the oldest first.
            waiting[peer.name] += 1
            if now - since > MAX_ANSWER_SECONDS:
                found.add(peer.name)
        excess = waiting.total() - sum(waiting[name] for name in found) - MAX_UNSENT_ANSWERS
        for name, count in waiting.most_common():
            if excess <= 0:
                break
            if name not in found:
                found.add(name)
                excess -= count
        return found

    def keep_only(self, names: set[str], as_of: float) -> None:
        """Forgets the peers that had no connection at the moment `as_of`. `names` are the peers
        that had a connection then. Peers with calls under way, or with a call after `as_of`, are
        kept.
        """
        gone = [
            name
            for name, peer in self._peers.items()
            if name not in names and not peer.calls and peer.last_call_at < as_of
        ]
        for name in gone:
            del self._peers[name]

    def _remember(self, name: str) -> Peer:
        if len(self._peers) >= _MAX_REMEMBERED:
            self.keep_only(set(), monotonic())
        peer = self._peers[name] = Peer(name)
        return peer
