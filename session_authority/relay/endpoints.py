"""Defines an endpoint: where events are delivered, which events, and the secrets that sign them.

`endpoints_file` reads endpoints from a file.
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
# Finds a secret in the wrong field, which an error must not show.
_SHOWN_SECRET = re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9+/=_-]+", re.ASCII)


class EndpointsError(Exception):
    """The endpoints can't be used. The message has a line for each fault, and leaves out text that
    looks like a secret.
    """

    def __init__(self, faults: str) -> None:
        super().__init__(_SHOWN_SECRET.sub(f"{SECRET_PREFIX}...", faults))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint, and the events that are delivered to it.

    Each event is signed with all `secrets`. The newest secret comes first. Empty `types` mean all
    types. `timeout` limits one whole exchange. `max_in_flight` is how many events one relay sends
    to the endpoint at the same time, in all partitions together. `private` allows addresses that
    are not on the public Internet.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    types: frozenset[EventType] = frozenset()
    timeout: timedelta = DEFAULT_TIMEOUT
    max_in_flight: int = DEFAULT_IN_FLIGHT
    private: bool = False


def new_secret() -> str:
    """Returns a new secret for signatures: 32 random bytes in the form of the Standard Webhooks
    specification.
    """
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
