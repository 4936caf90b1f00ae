"""Contains Session Authority, a gRPC service that tells other services whether a user's session on
a device is still valid.
"""

__version__ = "0.1.0"
