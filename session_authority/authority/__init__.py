"""Carries out the use cases. Only this room uses the store, the tokens, the clock and random
numbers together.

Most use cases read records, let the domain decide, and commit the decision. If a record has changed
between the read and the commit, the use case decides again. A revocation needs no decision: the
store carries it out. This room does not know gRPC.

No answer waits for a best-effort write. The answer to a denied token waits until its quiet event is
written on the primary, but not until replicas have the event.
"""

from session_authority.authority.authority import Authority

__all__ = ["Authority"]
