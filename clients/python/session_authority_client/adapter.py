"""Exports the interface for adapters. An adapter is middleware for a framework that this package
does not support, or a gateway in front of apps.

An adapter opens a visit before it calls the app, and closes the visit before it sends the headers
of the response:

    visits = Visits(authority, flow)
    visit = visits.open(method, headers, peer, target)   # raises Refused
    visit.require()                                      # or `visit.session`; both raise Refused
    cookies = visit.close()                              # the values of the `Set-Cookie` headers
    visit.leave()                                        # when the connection is over

The exception `Refused` contains the whole response that the adapter must send: `refused.answer` has
a status, headers and a body. `visit.caching` returns the changes to the response's headers that
tell caches whether to store the response. The middleware of this package uses this interface, too.
docs/adapters.md has the rules for adapters and an example.
"""

from __future__ import annotations

from session_authority_client._async.devices import async_answer_devices
from session_authority_client._async.visit import AsyncVisit
from session_authority_client._async.visits import AsyncVisits
from session_authority_client._shared.caching import Caching
from session_authority_client._shared.responses import Response
from session_authority_client._sync.devices import answer_devices
from session_authority_client._sync.visit import Visit
from session_authority_client._sync.visits import Visits
from session_authority_client.devices.public import public_response
from session_authority_client.devices.requests import MAX_BODY_BYTES, DevicesRequest
from session_authority_client.flow import VARIES, Headers, Refused

__all__ = [
    "MAX_BODY_BYTES",
    "VARIES",
    "AsyncVisit",
    "AsyncVisits",
    "Caching",
    "DevicesRequest",
    "Headers",
    "Refused",
    "Response",
    "Visit",
    "Visits",
    "answer_devices",
    "async_answer_devices",
    "public_response",
]
