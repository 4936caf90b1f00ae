"""Provides the basis of every process of this project: settings, clocks, addresses, durations,
logs, metrics, files, TLS, text, background tasks and back-off.

This package does not connect to Redis or gRPC, and does not know sessions.
"""
