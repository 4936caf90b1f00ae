"""Carries out the use cases. This is the only room in which store, tokens, clock and randomness
meet.

Every use case reads records, lets the domain decide, and commits the decision. If a record has
changed in between, the use case decides again. This room does not know gRPC. No answer of it waits
for a write that may be lost.
"""

from session_authority.authority.authority import Authority

__all__ = ["Authority"]
