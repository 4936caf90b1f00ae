"""Assembles and runs the processes of the project: the service, its workers, the relay and the
gateway. This package also checks the settings before the service starts.

This package decides nothing about sessions.
"""
