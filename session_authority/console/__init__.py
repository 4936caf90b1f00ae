"""Owns the calls of a running server for people: the connection, the demo, the tail of events, the
support desk.

It is a client like any other, and does not know the service's rooms.
"""
