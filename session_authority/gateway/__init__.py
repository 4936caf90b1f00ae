"""Answers proxies that ask whether a request may go on to an app. The gateway reads the cookies or
the bearer token of a request, and validates and renews sessions. So apps of any language need no
code to check sessions. Code for sign-in must still call the service.

The gateway is only a client of the service. It has no keys of the service and no Redis. All its
decisions about sessions come from the flow of the client.
"""
