"""Owns "My devices": the page that users see, and its API for scripts. `DevicesPage` mounts both in
the middleware of an app: `Flow(devices=DevicesPage(path="/devices"))`.

It decides what a request means and what its response says. It calls no service: the handlers of
both flavours do.
"""

from session_authority_client.devices.settings import DevicesPage

__all__ = ["DevicesPage"]
