"""Owns what calls a running server for people: the connection, the demo, and the tail of events.

It is a client like any other and refuses to know the service's rooms.
"""
