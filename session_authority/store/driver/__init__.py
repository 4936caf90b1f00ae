"""Wraps the driver, redis-py, and avoids its known faults. The modules make connections, send reads
in batches, send writes that are never interrupted, and translate errors and replies.

This package does not know which data is stored. No other package imports redis.
"""
