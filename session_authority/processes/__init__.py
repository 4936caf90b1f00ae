"""Puts rooms together and runs them: the service, its workers, the relay, and the checks before a
start.

It refuses to decide anything of sessions.
"""
