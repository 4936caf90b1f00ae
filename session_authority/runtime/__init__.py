"""Provides the basis of every process of this project: settings, clocks, event loops, addresses,
durations, logs, the audit log, metrics, tracing, files, TOML, descriptors, TLS, text, background
tasks and back-off.

This package does not connect to Redis or gRPC, and decides nothing about sessions.
"""
