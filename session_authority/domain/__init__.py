"""Pure values and decisions: what a session is, when a token is good, and what a request may say.

Every function here maps (state, request, now) to a decision. Nothing reads a clock, draws a random
number, awaits, or knows of gRPC, JWT or Redis.
"""
