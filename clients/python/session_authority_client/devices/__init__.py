"""Contains the page "My devices" for users, and its API for scripts. An app adds the page and the
API to its middleware with `Flow(devices=DevicesPage(path="/devices"))`.

This package decides what a request means and what its response says. This package never calls the
service. The handlers in `_async/devices.py` and `_sync/devices.py` make the calls to the service.
"""

from session_authority_client.devices.settings import DevicesPage

__all__ = ["DevicesPage"]
