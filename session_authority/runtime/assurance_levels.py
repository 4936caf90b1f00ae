"""Defines presets of settings for the authenticator assurance levels of NIST SP 800-63B-4."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from types import MappingProxyType


class Assurance(Enum):
    """The authenticator assurance levels of NIST SP 800-63B-4."""

    AAL1 = "aal1"
    AAL2 = "aal2"
    AAL3 = "aal3"


_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# The settings of each assurance level. SESSION_TTL is the overall timeout of the level, and
# IDLE_TIMEOUT is the inactivity timeout of the level (SP 800-63B-4 §2.1.3, §2.2.3, §2.3.3). For
# AAL1 the standard requires no inactivity timeout, so the IDLE_TIMEOUT of AAL1 is our choice.
# TOKEN_TTL is our choice for all levels: a token should not be valid for longer than an idle
# session.
PRESETS: Mapping[Assurance, Mapping[str, timedelta]] = MappingProxyType(
    {
        Assurance.AAL1: {"token_ttl": _HOUR, "session_ttl": 30 * _DAY, "idle_timeout": 7 * _DAY},
        Assurance.AAL2: {
            "token_ttl": 15 * _MINUTE,
            "session_ttl": 24 * _HOUR,
            "idle_timeout": _HOUR,
        },
        Assurance.AAL3: {
            "token_ttl": 15 * _MINUTE,
            "session_ttl": 12 * _HOUR,
            "idle_timeout": 15 * _MINUTE,
        },
    }
)
