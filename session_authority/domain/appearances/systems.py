"""Lists the systems that user agents name: the patterns that recognize them, and their names for
people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from session_authority.domain.appearances.agents import named
from session_authority.domain.clients import FormFactor


@dataclass(frozen=True, slots=True)
class System:
    """The system, the kind and the model of a device. The version is empty if user agents do not
    send the true version of this system.
    """

    family: str = ""
    version: str = ""
    form_factor: FormFactor = FormFactor.UNKNOWN
    model: str = ""

    @property
    def shown(self) -> str:
        """The name and the version of the system for people, such as "iOS 18" for version 18.5."""
        return named(self.family, self.version)


# The only models that Apple's user agents name. A model from this list says less than the system,
# because "iPadOS 18" already means an iPad.
APPLE_MODELS = frozenset({"iPhone", "iPad", "iPod touch"})
# Versions of Windows NT, and their names for people. A version that is not in this list is shown as
# "Windows".
WINDOWS = {
    "5.1": "Windows XP",
    "5.2": "Windows XP",
    "6.0": "Windows Vista",
    "6.1": "Windows 7",
    "6.2": "Windows 8",
    "6.3": "Windows 8.1",
}
_PC = FormFactor.DESKTOP
_CONSOLE = FormFactor.CONSOLE
# Patterns for the start of one part of a user agent, with the name and the kind of the system that
# the part describes. The patterns are tried in this order. The first group of a pattern is the
# version, if user agents send the true version.
SYSTEMS: tuple[tuple[re.Pattern[str], str, FormFactor], ...] = tuple(
    (re.compile(pattern + r"(?![A-Za-z])"), family, kind)
    for pattern, family, kind in (
        (r"PlayStation Vita", "PlayStation Vita", _CONSOLE),
        (r"PlayStation 5", "PlayStation 5", _CONSOLE),
        (r"PlayStation 4", "PlayStation 4", _CONSOLE),
        (r"PLAYSTATION 3|PlayStation 3", "PlayStation 3", _CONSOLE),
        (r"PlayStation(?= *\d|$)", "PlayStation", _CONSOLE),
        (r"Xbox Series S", "Xbox Series S", _CONSOLE),
        (r"Xbox Series X", "Xbox Series X", _CONSOLE),
        (r"Xbox One", "Xbox One", _CONSOLE),
        (r"Xbox", "Xbox", _CONSOLE),
        (r"Nintendo Switch 2", "Nintendo Switch 2", _CONSOLE),
        (r"Nintendo Switch", "Nintendo Switch", _CONSOLE),
        (r"(?:New )?Nintendo 3DS", "Nintendo 3DS", _CONSOLE),
        (r"Nintendo Wii ?U", "Nintendo Wii U", _CONSOLE),
        (r"Nintendo Wii", "Nintendo Wii", _CONSOLE),
        (r"(?:PSP )?\(?PlayStation Portable", "PlayStation Portable", _CONSOLE),
        (r"Nintendo DSi", "Nintendo DSi", _CONSOLE),
        (r"Nintendo", "Nintendo", _CONSOLE),
        (r"Web[0O]S|webOS", "webOS", FormFactor.TV),
        (r"Roku", "Roku", FormFactor.TV),
        (r"VIDAA", "VIDAA", FormFactor.TV),
        (r"NetCast", "NetCast", FormFactor.TV),
        (r"tvOS ([\d.]+)", "tvOS", FormFactor.TV),
        (r"AppleTV|Apple TV", "tvOS", FormFactor.TV),
        (r"watchOS ([\d.]+)", "watchOS", FormFactor.WEARABLE),
        (r"(?:Apple )?Watch\d+,\d+", "watchOS", FormFactor.WEARABLE),
        (r"visionOS ([\d.]+)", "visionOS", FormFactor.WEARABLE),
        (r"OpenHarmony ([\d.]+)", "HarmonyOS", FormFactor.PHONE),
        (r"HarmonyOS", "HarmonyOS", FormFactor.PHONE),
        (r"KAIOS ?([\d.]+)?", "KaiOS", FormFactor.PHONE),
        (r"Sailfish ([\d.]+)", "Sailfish OS", FormFactor.PHONE),
        (r"Windows Phone(?: OS)? ([\d.]+)", "Windows Phone", FormFactor.PHONE),
        (r"iPadOS ([\d.]+)", "iPadOS", FormFactor.TABLET),
        (r"iPad", "iPadOS", FormFactor.TABLET),
        (r"iPhone|iPod", "iOS", FormFactor.PHONE),
        (r"iOS (?:Version )?([\d.]+)", "iOS", FormFactor.PHONE),
        (r"Android(?: ([\d.]+))?", "Android", FormFactor.PHONE),
        (r"CrOS", "ChromeOS", _PC),
        (r"Macintosh", "macOS", _PC),
        (r"(?:Intel\w* )?(?:macOS|Mac OS X|OS X) (?:Version )?([\d.]+)", "macOS", _PC),
        (r"i?Mac(?:BookPro|BookAir|Book|mini|Pro)?\d+,\d+", "macOS", _PC),
        (r"Windows|Win64|Win32", "Windows", _PC),
        (r"Valve Steam (?:Gamepad|Deck)|SteamOS|Steam Deck", "SteamOS", _CONSOLE),
        (r"Fuchsia", "Fuchsia", _PC),
        (r"FreeBSD", "FreeBSD", _PC),
        (r"OpenBSD", "OpenBSD", _PC),
        (r"NetBSD", "NetBSD", _PC),
        (r"DragonFly", "DragonFly BSD", _PC),
        (r"SunOS|Solaris", "Solaris", _PC),
        (r"Haiku", "Haiku", _PC),
        (r"Ubuntu", "Ubuntu", _PC),
        (r"Debian", "Debian", _PC),
        (r"Fedora", "Fedora", _PC),
        (r"Arch Linux", "Arch Linux", _PC),
        (r"SUSE|openSUSE", "SUSE", _PC),
        (r"Red Hat", "Red Hat", _PC),
        (r"(?:Linux )?Mint", "Linux Mint", _PC),
        (r"CentOS", "CentOS", _PC),
        (r"Gentoo", "Gentoo", _PC),
        (r"Manjaro", "Manjaro", _PC),
        (r"Tizen ([\d.]+)|Tizen", "Tizen", FormFactor.TV),
        (r"Linux|X11|linux$", "Linux", _PC),
    )
)
# Linux distributions that user agents name as a product, with their names for people.
LINUXES = {"SUSE": "SUSE", "Hat": "Red Hat", "CentOS": "CentOS", "Ubuntu": "Ubuntu",
            "Fedora": "Fedora", "Debian": "Debian"}  # fmt: skip
# The versions of Android by their API levels. Some apps send the level in place of the version.
ANDROID_OF_LEVEL = {
    "26": "8", "27": "8", "28": "9", "29": "10", "30": "11", "31": "12", "32": "12", "33": "13",
    "34": "14", "35": "15", "36": "16",
}  # fmt: skip
