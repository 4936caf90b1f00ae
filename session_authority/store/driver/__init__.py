"""Wraps redis-py, the Redis driver, and avoids its known faults. The modules of this package make
connections, send reads in batches, run each write to its end, and translate errors and replies.

This package does not know the keys and records of the service. No other package of the service
imports redis-py.
"""
