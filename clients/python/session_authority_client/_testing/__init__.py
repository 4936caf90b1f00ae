"""Implements the fake service of `session_authority_client.testing`. This package has the state,
the rules and the methods of the fake service.
"""
