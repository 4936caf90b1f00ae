"""Owns the gateway: it answers proxies that ask whether a request may go on, with the whole flow of
a session, so that apps of any language need no code for it.

It is only a client of the service. It has no keys of the service and no Redis. All its decisions
come from the flow of the client.
"""
