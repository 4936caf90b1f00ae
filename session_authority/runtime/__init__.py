"""Owns what every process of this project stands on: settings, clock, addresses, durations, logs,
metrics, files, TLS, text, background tasks and back-off.

It refuses to speak to Redis or gRPC, and to know who is signed in.
"""
