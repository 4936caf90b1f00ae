"""Owns the use cases: the only room where store, tokens, clock and randomness meet.

Every use case reads, lets the domain decide, and commits the decision. If a record has changed
meanwhile, it decides again. This room refuses to know gRPC, and to let an answer wait for a write
that may be lost.
"""

from session_authority.authority.authority import Authority

__all__ = ["Authority"]
