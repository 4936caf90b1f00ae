"""Answers proxies that ask whether a request may go on to an app. The gateway reads the cookies or
the bearer token of the request, and validates and renews sessions. So an app behind the gateway
needs no code that checks sessions, in whichever language it is written. But an app that signs users
in must still call the service.

The gateway is only a client of the service. The gateway has no signing keys of the service, and no
connection to Redis. All decisions of the gateway about sessions come from the flow of the Python
client.
"""
