"""Carries out the use cases. This is the only room in which store, tokens, clock and randomness
meet.

Most use cases read records, let the domain decide, and commit the decision. If a record has changed
in between, the use case decides again. A revocation needs no decision: the store carries it out.
This room does not know gRPC. No answer waits for a best-effort write. The answer to a denied token
waits until its quiet event is written, but not for replicas.
"""

from session_authority.authority.authority import Authority

__all__ = ["Authority"]
