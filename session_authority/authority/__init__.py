"""Owns the use cases: the one place where store, tokens, clock and randomness meet.

Every use case reads, lets the domain decide, and commits the decision; if something changed
meanwhile, it decides again. It refuses to know gRPC, and to let an answer wait for a write that may
be lost.
"""

from session_authority.authority.authority import Authority

__all__ = ["Authority"]
