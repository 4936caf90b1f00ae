"""Owns the processes: assembles the service, its workers, the relay and the gateway from rooms, and
checks for unsafe settings before a start.

It decides nothing about sessions.
"""
