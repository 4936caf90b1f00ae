"""Calls a running server for commands that people use: the demo, the tail of events, the health
check, and the commands of the support desk.

This package is a client like any other. Of the service's rooms, it imports only `runtime` and the
generated contract.
"""
