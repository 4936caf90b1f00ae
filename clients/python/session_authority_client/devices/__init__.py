"""The page "My devices" for users, and its API for scripts. `DevicesPage` mounts both in the
middleware of an app: `Flow(devices=DevicesPage(path="/devices"))`.

This package decides what a request means and what its response says. It never calls the service.
The handlers in `_async/devices.py` and `_sync/devices.py` make the calls.
"""

from session_authority_client.devices.settings import DevicesPage

__all__ = ["DevicesPage"]
