"""Calls a running server for people: the commands for the demo, the tail of events, and the support
desk.

This package is a client like any other. Of the service's rooms, it imports only `runtime` and the
generated contract.
"""
