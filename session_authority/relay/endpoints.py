"""Defines an endpoint: its URL, the types of events that it gets, and the secrets that sign these
events.

The module `endpoints_file` reads endpoints from a file.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from session_authority.domain.events import EventType

DEFAULT_TIMEOUT = timedelta(seconds=10)
DEFAULT_IN_FLIGHT = 16
SECRET_PREFIX = "whsec_"
# Finds a secret that a user wrote into the wrong field. An error must not show the secret.
_SHOWN_SECRET = re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9+/=_-]+", re.ASCII)


class EndpointsError(Exception):
    """An error that says why the endpoints can't be used. The message has a line for each fault. In
    the message, text that looks like a secret is replaced by `whsec_...`.
    """

    def __init__(self, faults: str) -> None:
        super().__init__(_SHOWN_SECRET.sub(f"{SECRET_PREFIX}...", faults))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Describes an HTTP endpoint, and the events that are delivered to the endpoint.

    Each event gets one signature for each of `secrets`. If `types` is empty, events of all types
    are delivered. `timeout` limits one attempt, from the look-up of the host to the end of the
    response. `max_in_flight` is the most events that one relay sends to the endpoint at the same
    time, over all partitions. If `private` is True, the host of `url` may have addresses that are
    not public.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    types: frozenset[EventType] = frozenset()
    timeout: timedelta = DEFAULT_TIMEOUT
    max_in_flight: int = DEFAULT_IN_FLIGHT
    private: bool = False


def new_secret() -> str:
    """Returns a new secret for signatures, in the text form of the Standard Webhooks specification:
    `whsec_` and the base64 of 32 random bytes.
    """
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
