"""Owns what runs: puts rooms together to the service, its workers and the relay, and checks what is
unsafe before a start.

It refuses to decide anything of sessions.
"""
