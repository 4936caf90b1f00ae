"""The interface for adapters. An adapter is middleware for another framework, or a gateway in front
of apps.

An adapter opens a visit before it calls the app. It closes the visit when the response's headers
are sent:

    visits = Visits(authority, flow)
    visit = visits.open(method, headers, peer, target)   # raises Refused
    visit.require()                                      # or `session`; raises Refused
    cookies = visit.close()                              # the lines of `Set-Cookie`
    visit.leave()                                        # the connection is over

A refusal carries the whole response: `refused.answer` has a status, headers and a body.
`visit.caching` says which headers a cache must see. The middleware of this package uses this
interface, too. docs/adapters.md has the rules and an example.
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
