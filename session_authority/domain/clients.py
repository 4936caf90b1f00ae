"""Defines the facts about the end user's browser or app, and about its place. The service shows
these facts to people, and never trusts them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from session_authority.domain.addresses import AddressDetail, kept_address
from session_authority.domain.appearances.hints import NO_HINTS, ClientHints
from session_authority.domain.places import NO_PLACE, Place

UNKNOWN_NAME = "Unknown device"


class FormFactor(Enum):
    """The kinds of devices."""

    UNKNOWN = "unknown"
    DESKTOP = "desktop"
    PHONE = "phone"
    TABLET = "tablet"
    TV = "tv"
    CONSOLE = "console"
    WEARABLE = "wearable"
    BOT = "bot"


@dataclass(frozen=True, slots=True)
class Appearance:
    """The description of a client for people. A part that is not known is empty, except the name: a
    name that is not known is "Unknown device".

    For example, the browser "Chrome 148", the form factor PHONE, the system "Android 16" and the
    model "Pixel 10 Pro" give the name "Chrome 148 on Pixel 10 Pro".
    """

    operating_system: str = ""
    browser: str = ""
    form_factor: FormFactor = FormFactor.UNKNOWN
    model: str = ""
    name: str = UNKNOWN_NAME


@dataclass(frozen=True, slots=True)
class Client:
    """The facts that the caller knows about the end user's browser or app. A fact that is not known
    is empty.

    `place` is the place that the caller gave. If the caller gave no place, `place` is the place
    that was looked up from the address. `appearance` is the stored description. `appearance` is set
    only if the client was read from the store.
    """

    ip_address: str = ""
    user_agent: str = ""
    display_name: str = ""
    app_version: str = ""
    hints: ClientHints = NO_HINTS
    place: Place = NO_PLACE
    appearance: Appearance | None = field(default=None, compare=False)

    def updated_by(self, newer: Client) -> Client:
        """Returns this client, updated with all facts that `newer` has. Facts that `newer` lacks
        stay, unless they belong to an address or a user agent that `newer` replaces.
        """
        if newer is NO_CLIENT:
            return self
        return Client(
            ip_address=newer.ip_address or self.ip_address,
            user_agent=newer.user_agent or self.user_agent,
            display_name=newer.display_name or self.display_name,
            app_version=newer.app_version or self.app_version,
            hints=self._hints_updated_by(newer),
            # The old place does not belong to the new address.
            place=newer.place if newer.ip_address or newer.place != NO_PLACE else self.place,
            # The stored description belongs to the old user agent and hints. Without a stored
            # description, code that shows the client makes a new description.
            appearance=None if newer.user_agent or newer.hints != NO_HINTS else self.appearance,
        )

    def kept(self, detail: AddressDetail) -> Client:
        """Returns this client, with its address reduced to the part that the service keeps.
        `detail` says which part the service keeps.
        """
        if detail is AddressDetail.FULL:
            return self
        return replace(self, ip_address=kept_address(self.ip_address, detail))

    def _hints_updated_by(self, newer: Client) -> ClientHints:
        is_another_agent = newer.user_agent not in {"", self.user_agent}
        if is_another_agent and newer.hints == NO_HINTS:
            return NO_HINTS  # the old hints do not belong to the new user agent
        return newer.hints.completed_by(self.hints)


# The client of a request that says nothing about its client.
NO_CLIENT = Client()
