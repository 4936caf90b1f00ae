"""Owns the foundations of every process of this project: settings, clock, addresses, durations,
logs, metrics, files, TLS, text, background tasks and back-off.

It does not speak to Redis or gRPC, and does not know sessions.
"""
