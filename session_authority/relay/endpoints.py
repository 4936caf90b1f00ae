"""Owns what an endpoint is: where to deliver events, which ones, and the secrets that sign them.

How a file names endpoints is for `endpoints_file`.
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
# A secret in the wrong field, which an error must not show.
_SHOWN_SECRET = re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9+/=_-]+", re.ASCII)


class EndpointsError(Exception):
    """The endpoints can't be used. The message has a line for each fault. Text that looks like a
    secret is left out.
    """

    def __init__(self, faults: str) -> None:
        super().__init__(_SHOWN_SECRET.sub(f"{SECRET_PREFIX}...", faults))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to deliver events, and which.

    `secrets` all sign, the newest first. `types` empty means all. `timeout` is for one whole
    exchange, `max_in_flight` for all partitions together. `private` allows addresses that are not
    on the public Internet.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    types: frozenset[EventType] = frozenset()
    timeout: timedelta = DEFAULT_TIMEOUT
    max_in_flight: int = DEFAULT_IN_FLIGHT
    private: bool = False


def new_secret() -> str:
    """A secret to sign with, in the form of the Standard Webhooks specification: 32 random
    bytes.
    """
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
