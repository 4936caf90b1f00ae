"""Remembers facts about each connection: its caller, its last call, and the answers that its peer
has not read.

An answer that the peer does not read waits in gRPC's core. A waiting answer delays no other call,
but occupies memory. So `Peers.slow` finds the peers that do not read their answers, and another
module closes their connections. This module does not use sockets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

import grpc

# A peer must read each answer within this time. If an answer waits longer than this time, the
# connection of its peer is closed.
MAX_ANSWER_SECONDS = 10.0
# The limit of the unread answers of all peers together. Each unread answer occupies about 15 KiB of
# memory.
MAX_UNSENT_ANSWERS = 1000
# An answer counts as unread only if it has waited for more than this time. A shorter wait is normal
# when a peer makes many calls at once and reads the answers one by one.
_AT_ONCE_SECONDS = 1.0
# When this many peers are remembered and another peer arrives, all peers without running calls are
# forgotten.
_MAX_REMEMBERED = 10_000


class Peer:
    """The process at the other end of one connection. `caller` is the name of the caller that was
    admitted last on the connection, or None if no caller was admitted. `calls` is the number of the
    peer's calls whose answers are not sent yet.
    """

    __slots__ = ("caller", "calls", "last_call_at", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.caller: str | None = None
        self.calls = 0
        self.last_call_at = 0.0


class Peers:
    """Holds the peers that have made calls. The key of a peer is the peer's name in gRPC, such as
    `ipv4:192.0.2.1:50000`.
    """

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        # Contains each call whose answer is not sent yet. The key is the call, or the task that
        # answers the call. The value is the time when the answer began to wait, and the peer of the
        # call. The oldest entry is first.
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
        of this call waits for the peer to read the answer.
        """
        self._unsent[call] = (monotonic(), peer)

    def leave_with_task(self, peer: Peer) -> None:
        """Notes that the handler of the running task's call has ended. The answer of this call
        counts as sent when the task ends.
        """
        task = asyncio.current_task()
        assert task is not None
        self.leave(peer, task)
        task.add_done_callback(self.sent)

    def sent(self, call: object) -> None:
        """Notes that the answer of a call was sent, or that the caller no longer waits for the
        answer.
        """
        _, peer = self._unsent.pop(call)
        peer.calls -= 1

    def get(self, name: str) -> Peer | None:
        """Returns the peer with this name, or None if the peer is not known."""
        return self._peers.get(name)

    def slow(self, now: float) -> set[str]:
        """Returns the names of the peers that do not read their answers. A peer is slow if one of
        its answers has waited for more than MAX_ANSWER_SECONDS. If all other peers together have
        more than MAX_UNSENT_ANSWERS unread answers, the peers with the most unread answers also
        count as slow. `now` is a time of the monotonic clock, in seconds.
        """
        found = set()
        waiting: Counter[str] = Counter()
        for since, peer in self._unsent.values():
            if now - since <= _AT_ONCE_SECONDS:
                break  # All further answers are newer.
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
        """Forgets the peers whose connections have ended. `names` has the names of the peers that
        had a connection at the time `as_of`, which is a time of the monotonic clock in seconds. A
        peer with running calls, or with a call at `as_of` or later, is not forgotten.
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
