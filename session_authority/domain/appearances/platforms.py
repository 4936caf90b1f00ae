"""Reads the system, the model and the kind of a device from a user agent.

The module reads the parts of a user agent that describe the device. A word in the name of an app
usually says nothing about the device. So the end of an app's name ("MyApp-iOS") is read only if
nothing else in the user agent describes the device. The names of a few programs are always read,
because each of these programs runs on only one system.
"""

from __future__ import annotations

import re

from session_authority.domain.appearances.agents import UserAgent, major
from session_authority.domain.appearances.models import kind_of_model, model_name
from session_authority.domain.appearances.programs import MAC_APPS
from session_authority.domain.appearances.systems import (
    ANDROID_OF_LEVEL,
    LINUXES,
    SYSTEMS,
    WINDOWS,
    System,
)
from session_authority.domain.clients import FormFactor

_IOS_VERSION = re.compile(r"\bi?OS (\d+)_\d+")
_IOS_VERSION_ELSEWHERE = re.compile(r"(?<![\w-])(?<!for )(?:iOS|iPadOS)[/ ](?:Version )?(\d+)")
_ARCHITECTURE = re.compile(r"\((?:x86_64|i386|arm64e?)\)")
# The name of a system at the end of an app's name. The user agents of some apps name the system
# nowhere else.
_SYSTEM_IN_NAME = re.compile(r"(?:[-_ ]|(?<=[a-z]))(?:iOS|iPhone|iPad|Android|macOS|Mac|Windows)$")
_DESCRIBED = re.compile(
    r"(?<![\w-])(?<!for )((?:iOS|iPadOS|macOS|tvOS|watchOS|visionOS|Android|HarmonyOS"
    r"|Windows(?: NT)?)[/ ](?:Version )?\d[\d.]*"
    r"|(?:iPhone|iPad|iPod|AppleTV|Watch|i?Mac[A-Za-z]*)\d+,\d+)"
)
# The forms in which the user agents of Facebook's and Instagram's apps describe a device.
_FACEBOOK = re.compile(r";(FB(?:DV|SN|SV|MD))/([^;\]]{1,64})")
_INSTAGRAM_ANDROID = re.compile(r"\bAndroid \(\d+/([\d.]+);[^;]*;[^;]*;[^;]*; ?([^;]*);")
_TRUE_IOS_VERSION = re.compile(r";FBSV/(\d+)|; iOS (\d+)[_.]")
_FROZEN_IOS_VERSION = re.compile(r"OS 18_[67](?!_)\b")
# The build of iOS. The pattern does not match the build that browsers send on every iPhone
# (15E148).
_IOS_BUILD = re.compile(r"\bMobile/(2\d)[A-Z]\d")
_FIRST_IOS_BUILD_WITH_YEARS = 23
_NO_MODEL = re.compile(
    r"([a-z]{2}([-_][A-Za-z]{2,4})?|wv|K|U|Mobile( VR)?|VR|Tablet|TV|HarmonyOS|"
    r"(HMSCore|SDK|rv:|Scale|Linux|Android|Opera M|Build|HIGH|AVERAGE|LOW|https?:|\+|build:|"
    r"arm|x86|Release|API ).*|[\d.]+|\d+(dpi|x\d|/\d).*|\w+=.*)?$"
)
_TV_PART = re.compile(r"(?:.*; )?(?:Linux/)?Smart-?TV", re.IGNORECASE)
_QUEST = re.compile(r"(?:Meta )?(Quest(?: \w+)?)$")
_FIRST_DARWIN_WITH_YEARS = 25


def read_system(agent: UserAgent) -> System:
    """Returns the system that the user agent describes. Returns an empty `System` if the user agent
    describes no system.
    """
    if agent.version_of("Darwin") is not None:
        return _darwin(agent)
    if agent.text.startswith("Roku/DVP"):
        return System("Roku", "", FormFactor.TV)
    if (version := agent.version_of("KAIOS")) is not None:
        return System("KaiOS", version, FormFactor.PHONE)
    if agent.version_of("Sparkle") is not None:  # Sparkle updates only apps for Macs
        return System("macOS", "", FormFactor.DESKTOP)
    if (told := _told_by_app(agent)) is not None:
        return told
    for parts in agent.comments[:1] if agent.is_browser_like else agent.comments:
        if (system := _of_parts(parts, agent)) is not None:
            return system
    if not agent.is_browser_like:
        parts = [part.replace("/", " ") for part in _DESCRIBED.findall(agent.text)]
        parts += [p.version.replace("samsung-", "") for p in agent.products if p.name == "Device"]
        if parts:
            others = [part for comment in agent.comments for part in comment]
            return _of_parts([*parts, *others], agent) or System()
        return _in_name(agent)
    return System()


def _in_name(agent: UserAgent) -> System:
    found = _SYSTEM_IN_NAME.search(agent.leading.name)
    if found is None:
        return System()
    word = found[0].strip("-_ ")
    is_pad, is_phone = word == "iPad", word in {"iOS", "iPhone", "Android"}
    family = {"iPad": "iPadOS", "iPhone": "iOS", "Mac": "macOS"}.get(word, word)
    mobile = FormFactor.TABLET if is_pad else FormFactor.PHONE
    return System(family, "", mobile if is_pad or is_phone else FormFactor.DESKTOP)


def _told_by_app(agent: UserAgent) -> System | None:
    """Returns the system that the user agent of Facebook's or Instagram's app describes. Returns
    None for the user agents of other apps, and of the web views in these two apps.
    """
    if agent.text.startswith("["):
        told = dict(_FACEBOOK.findall(agent.text))
        if told.get("FBSN") in {"iOS", "iPhone OS", "iPadOS"}:
            return _of_parts([f"iOS {told.get('FBSV', '')}", told.get("FBMD", "iPhone")], agent)
        if "FBSV" in told:
            return _of_parts([f"Android {told['FBSV']}", told.get("FBDV", "")], agent)
    if not agent.is_browser_like and (found := _INSTAGRAM_ANDROID.search(agent.text)):
        return _of_parts([f"Android {found[1]}", found[2]], agent)
    return None


def _of_parts(parts: list[str], agent: UserAgent) -> System | None:
    for part in parts:
        if agent.is_browser_like and (quest := _QUEST.match(part)):
            return System("Horizon OS", "", FormFactor.WEARABLE, quest[1])
    for pattern, family, kind in SYSTEMS:
        for part in parts:
            if found := pattern.match(part):
                version = (found[1] if pattern.groups else "") or ""
                return _DETAILS.get(family, _as_found)(System(family, version, kind), parts, agent)
    return None


def _as_found(system: System, _: list[str], __: UserAgent) -> System:
    return system


def _harmony(system: System, parts: list[str], agent: UserAgent) -> System:
    kinds = {
        "Tablet": FormFactor.TABLET,
        "PC": FormFactor.DESKTOP,
        "2in1": FormFactor.DESKTOP,
        "TV": FormFactor.TV,
    }
    kind = kinds.get(parts[0], system.form_factor)
    model = "" if system.version else _model(parts)
    return System(system.family, system.version, kind, model)


def _apple_mobile(system: System, parts: list[str], agent: UserAgent) -> System:
    is_pad = any(part.startswith("iPad") for part in parts)
    said = _IOS_VERSION.search("; ".join(parts))
    version = said[1] if said else system.version
    for part in parts:
        if not version and part.startswith(("iOS ", "iPadOS ")):
            version = part.removeprefix("iPadOS ").removeprefix("iOS ").removeprefix("Version ")
    if not version and (elsewhere := _IOS_VERSION_ELSEWHERE.search(agent.text)):
        version = elsewhere[1]
    if agent.is_browser_like and version == "18":
        version = _thawed(agent)
    if is_pad:
        return System("iPadOS", version, FormFactor.TABLET, "iPad")
    model = "iPod touch" if any(part.startswith("iPod") for part in parts) else "iPhone"
    return System("iOS", version, FormFactor.PHONE, model)


def _thawed(agent: UserAgent) -> str:
    """Returns the true major version of iOS for a user agent that says 18. Returns an empty text if
    the user agent does not show the true version.

    Since iOS 26, WebKit says 18.6 or 18.7 for every version of iOS. Safari's own version equals the
    version of iOS. Some apps send the version or the build of iOS elsewhere in the user agent. If a
    user agent says neither 18.6 nor 18.7, its 18 is believed.
    """
    if told := _TRUE_IOS_VERSION.search(agent.text):
        return told[1] or told[2]
    if build := _IOS_BUILD.search(agent.text):
        number = int(build[1])
        return str(number + 3 if number >= _FIRST_IOS_BUILD_WITH_YEARS else number - 4)
    safari = major(agent.version_of("Version") or "")
    if safari and (int(safari) >= 26 or safari == "18"):
        return safari
    return "" if _FROZEN_IOS_VERSION.search(agent.text) else "18"


def _tv_os(system: System, parts: list[str], _: UserAgent) -> System:
    for part in parts:
        if part.startswith("tvOS "):
            return System("tvOS", part.removeprefix("tvOS "), FormFactor.TV)
    return system


def _mac(system: System, _: list[str], __: UserAgent) -> System:
    # No macOS has a version from 16 to 25. If a program sends a number from 16 to 25, the number is
    # the version of the kernel.
    number = major(system.version)
    # Browsers send the version 10 on every Mac.
    is_told = number != "" and number != "10" and not 16 <= int(number) <= 25
    return System("macOS", system.version if is_told else "", FormFactor.DESKTOP)


def _tizen(system: System, parts: list[str], agent: UserAgent) -> System:
    if _TV_PART.match("; ".join(parts)) is None and " TV Safari/" not in agent.text:
        if any("SM-R" in part for part in parts):
            return System("Tizen", system.version, FormFactor.WEARABLE)
        if agent.version_of("Safari") is not None and "Mobile Safari" in agent.outside:
            return System("Tizen", system.version, FormFactor.PHONE)
    return system


def _windows(system: System, parts: list[str], _: UserAgent) -> System:
    for part in parts:
        if part.startswith("Windows NT "):
            family = WINDOWS.get(part.removeprefix("Windows NT ")[:3], "Windows")
            return System(family, "", FormFactor.DESKTOP)
    return system


def _android(system: System, parts: list[str], agent: UserAgent) -> System:
    model = model_name(_model(parts))
    version = ANDROID_OF_LEVEL.get(system.version, system.version)
    if version.partition(".")[0] == "10" and not model and agent.is_browser_like:
        version = ""  # browsers send "Android 10; K" for every version of Android
    kind = FormFactor.WEARABLE if _is_headset(parts, agent) else kind_of_model(model)
    if kind is FormFactor.TV:
        return System("Fire OS" if model == "Fire TV" else "Android TV", "", kind, model)
    if model.startswith("Fire "):
        return System("Fire OS", "", FormFactor.TABLET, model)
    if kind is None:
        is_tablet = "Tablet" in parts or (
            # Browsers send "Mobile" on phones, but not on tablets. Apps never send "Mobile".
            agent.text.startswith("Mozilla/") and "Mobile" not in agent.text
        )
        kind = FormFactor.TABLET if is_tablet else FormFactor.PHONE
    return System("Android", version, kind, model)


def _is_headset(parts: list[str], agent: UserAgent) -> bool:
    is_said = any(part in {"VR", "Mobile VR", "XR"} for part in parts)
    return is_said or (agent.is_browser_like and " VR Safari/" in agent.outside)


def _model(parts: list[str]) -> str:
    """Returns the first part that can be a model, after the part that names the system. Returns an
    empty text if no part can be a model.
    """
    after = False
    for part in parts:
        if part.startswith(("Android", "HarmonyOS")):
            after = True
        elif after:
            model = re.split(r" (?:Build(?:/|$)|MIUI/)", part, maxsplit=1)[0].strip()
            if not _NO_MODEL.match(model) and not model.startswith(("Build/", "com.")):
                return model
    return ""


def _fuchsia(system: System, _: list[str], agent: UserAgent) -> System:
    is_screen = agent.version_of("CrKey") is not None
    return System("Fuchsia", "", FormFactor.TV if is_screen else FormFactor.DESKTOP)


def _linux(system: System, parts: list[str], agent: UserAgent) -> System:
    is_screen = " TV Safari/" in agent.text or any(map(agent.version_of, ("HbbTV", "OMI")))
    if is_screen or _TV_PART.match("; ".join(parts)):
        return System("Linux", "", FormFactor.TV)
    families = (family for name, family in LINUXES.items() if agent.version_of(name) is not None)
    return System(next(families, "Linux"), "", FormFactor.DESKTOP)


_DETAILS = {
    "HarmonyOS": _harmony,
    "iOS": _apple_mobile,
    "iPadOS": _apple_mobile,
    "tvOS": _tv_os,
    "macOS": _mac,
    "Tizen": _tizen,
    "Windows": _windows,
    "Android": _android,
    "Fuchsia": _fuchsia,
    "Linux": _linux,
}


def _darwin(agent: UserAgent) -> System:
    """Returns the system in a user agent of Apple's network library. The library names only the
    kernel, and Macs, phones and watches have the same kernel. So the system is read from other
    parts of the user agent. The result is empty if no part shows the system.
    """
    parts = [part.replace("/", " ") for part in _DESCRIBED.findall(agent.text)]
    if parts and (system := _of_parts(parts, agent)) is not None:
        return system
    # Only programs on Macs name their architecture.
    if _ARCHITECTURE.search(agent.text) or agent.leading.name in MAC_APPS:
        return System("macOS", "", FormFactor.DESKTOP)
    if agent.leading.name == "MobileSafari":
        kernel = int(major(agent.version_of("Darwin") or "") or 0)
        version = kernel + 1 if kernel >= _FIRST_DARWIN_WITH_YEARS else kernel - 6
        return System("iOS", str(max(version, 0)), FormFactor.PHONE, "iPhone")
    return System()
