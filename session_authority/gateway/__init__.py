"""Owns the gateway: it answers proxies that ask whether a request may go on, with the whole flow of
a session, so that apps of any language need no code for it.

It is a mere client of the service. It has no keys and no Redis, and decides nothing that the flow
of the client does not.
"""
