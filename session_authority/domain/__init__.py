"""Owns pure values and decisions: what a session is, when a token is good, what a request may say.

Every decision here maps (state, request, now) to a value. The room refuses to read a clock, to draw
a random number, to await, and to know gRPC, JWT or Redis.
"""
