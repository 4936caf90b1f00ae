"""Owns the driver, redis-py, with its traps disarmed: connections, batched reads, writes that run
to their end, errors and replies.

It refuses to know what is stored. No other room imports redis.
"""
