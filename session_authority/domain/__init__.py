"""Defines pure values and decisions: what a session is, when a token is good, and which requests
are valid.

Every decision maps (state, request, now) to a value. This room reads no clock, draws no random
number and awaits nothing. It does not know gRPC, JWT or Redis.
"""
