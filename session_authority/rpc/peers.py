"""Notes the facts of each connection: its caller, its last use, and the answers that its peer has
not read.

An answer that the peer does not read waits in gRPC's core, together with its call. It blocks no
other call, but it takes memory. So this module names the peers that do not read, and their
connections are closed. This module does not know sockets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

import grpc

# An answer must be taken in this time, or the connection is closed.
MAX_ANSWER_SECONDS = 10.0
# Answers that were not taken at once. Each keeps about 15 KiB.
MAX_UNSENT_ANSWERS = 1000
# An answer that is younger than this was only just given: that of a burst, from a sound peer.
_AT_ONCE_SECONDS = 1.0
# Peers that are remembered without a look at which connections there still are.
_MAX_REMEMBERED = 10_000


class Peer:
    """The other side of one connection. `caller` is the name of the caller that was admitted on it,
    None for a stranger; `calls` counts its calls until their answers are sent.
    """

    __slots__ = ("caller", "calls", "last_call_at", "name", "watches")

    def __init__(self, name: str) -> None:
        self.name = name
        self.caller: str | None = None
        self.calls = 0
        self.last_call_at = 0.0
        self.watches = 0


class Peers:
    """The peers that called, by gRPC's names of them."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        # By the call, or its task, the oldest first: since when the answer waits, and the peer.
        self._unsent: dict[object, tuple[float, Peer]] = {}

    def enter(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        """The peer of a call that arrives."""
        name: str = context.peer()
        peer = self._peers.get(name)
        if peer is None:
            peer = self._remember(name)
        peer.calls += 1
        peer.last_call_at = monotonic()
        return peer

    def leave(self, peer: Peer, call: object) -> None:
        """Notes that the handler of a call is over. From now until `sent` the peer is to read."""
        self._unsent[call] = (monotonic(), peer)

    def leave_with_task(self, peer: Peer) -> None:
        """The handler of the running task's call is over, and its answer is sent when the task
        ends.
        """
        task = asyncio.current_task()
        assert task is not None
        self.leave(peer, task)
        task.add_done_callback(self.sent)

    def sent(self, call: object) -> None:
        """The answer of a call is sent, or nobody waits for it any more."""
        _, peer = self._unsent.pop(call)
        peer.calls -= 1

    def get(self, name: str) -> Peer | None:
        """The notes on a peer. None if there are none."""
        return self._peers.get(name)

    def slow(self, now: float) -> set[str]:
        """The names of the peers that let answers lie: for too long, or, if too many lie around,
        more answers than other peers.
        """
        found = set()
        waiting: Counter[str] = Counter()
        for since, peer in self._unsent.values():
            if now - since <= _AT_ONCE_SECONDS:
                break  # the oldest come first
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
        """Forgets the peers that are not among those that had a connection at that moment."""
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
