"""The fake service behind `session_authority_client.testing`. This package has its state, its rules
and its methods.
"""
