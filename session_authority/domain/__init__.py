"""Defines values and decisions: what a session is, when a token is good, and which requests are
valid.

A decision is a pure function of the state, the request and the time. This room reads no clock,
draws no random number and awaits nothing. This room does not know gRPC, JWT or Redis.
"""
