"""Session Authority, a service for other services. It answers whether a user's session on a device
is still good.
"""

__version__ = "0.1.0"
