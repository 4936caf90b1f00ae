"""Session Authority: the service that other services ask whether a user's session on a device is
still good.
"""

__version__ = "0.1.0"
