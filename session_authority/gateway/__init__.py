"""The gateway: it answers proxies that ask whether a request may go on. It handles the whole flow
of a session, so that apps of any language need no code for sessions.

The gateway is only a client of the service. It has no keys of the service and no Redis. All its
decisions come from the flow of the client.
"""
