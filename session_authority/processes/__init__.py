"""Assembles the processes from the rooms: the service, its workers, the relay and the gateway. It
also checks for unsafe settings before a start.

This package decides nothing about sessions.
"""
