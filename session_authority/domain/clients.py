"""The end user's browser or app, as a caller describes it. Shown to people, never trusted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FormFactor(Enum):
    """What kind of thing a device is."""

    UNKNOWN = "unknown"
    DESKTOP = "desktop"
    PHONE = "phone"
    TABLET = "tablet"
    TV = "tv"
    CONSOLE = "console"
    WEARABLE = "wearable"
    BOT = "bot"


@dataclass(frozen=True, slots=True)
class Client:
    """What the caller knows of the end user's browser or app. Empty means unknown."""

    ip_address: str = ""
    user_agent: str = ""
    display_name: str = ""
    app_version: str = ""

    def updated_by(self, newer: Client) -> Client:
        """This client with everything that `newer` knows."""
        return Client(
            ip_address=newer.ip_address or self.ip_address,
            user_agent=newer.user_agent or self.user_agent,
            display_name=newer.display_name or self.display_name,
            app_version=newer.app_version or self.app_version,
        )


# A request that tells nothing of its client.
NO_CLIENT = Client()
