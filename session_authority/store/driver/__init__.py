"""Wraps the driver, redis-py, and avoids its known faults: connections, batched reads, writes that
are never interrupted, errors and replies.

This package does not know which data is stored. No other package imports redis.
"""
