"""Owns what every process of this project stands on: settings, the clock, logs, metrics, files, TLS
and text.

It knows nothing of Redis, of gRPC or of who is signed in.
"""
