"""Provides what every process of this project needs: settings, clocks, event loops, addresses,
durations, logs, the audit log, metrics, tracing, files, TOML, descriptors, TLS, text, background
tasks and back-off.

This package does not call Redis, serves no gRPC, and decides nothing about sessions.
"""
