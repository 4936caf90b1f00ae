"""Names the models of Android devices from the codes of their makers. Also finds the kind of a
device (such as phone or tablet), if the name of its model shows the kind.
"""

from __future__ import annotations

import re

from session_authority.domain.clients import FormFactor

# Samsung's codes of models, without the letter of the region. A code that is not in this list is
# shown unchanged.
_GALAXY = {
    "S901": "Galaxy S22", "S906": "Galaxy S22+", "S908": "Galaxy S22 Ultra",
    "S911": "Galaxy S23", "S916": "Galaxy S23+", "S918": "Galaxy S23 Ultra",
    "S711": "Galaxy S23 FE", "S721": "Galaxy S24 FE", "S731": "Galaxy S25 FE",
    "S921": "Galaxy S24", "S926": "Galaxy S24+", "S928": "Galaxy S24 Ultra",
    "S931": "Galaxy S25", "S936": "Galaxy S25+", "S938": "Galaxy S25 Ultra",
    "S937": "Galaxy S25 Edge", "S942": "Galaxy S26", "S947": "Galaxy S26+",
    "S948": "Galaxy S26 Ultra", "G991": "Galaxy S21", "G996": "Galaxy S21+",
    "G998": "Galaxy S21 Ultra", "G990": "Galaxy S21 FE", "G781": "Galaxy S20 FE",
    "G973": "Galaxy S10", "G981": "Galaxy S20",
    "F721": "Galaxy Z Flip4", "F731": "Galaxy Z Flip5", "F741": "Galaxy Z Flip6",
    "F766": "Galaxy Z Flip7", "F936": "Galaxy Z Fold4", "F946": "Galaxy Z Fold5",
    "F956": "Galaxy Z Fold6", "F966": "Galaxy Z Fold7",
    "A146": "Galaxy A14 5G", "A156": "Galaxy A15 5G", "A166": "Galaxy A16 5G",
    "A256": "Galaxy A25", "A266": "Galaxy A26", "A346": "Galaxy A34", "A356": "Galaxy A35",
    "A366": "Galaxy A36", "A526": "Galaxy A52 5G", "A536": "Galaxy A53", "A546": "Galaxy A54",
    "A556": "Galaxy A55", "A566": "Galaxy A56",
    "X700": "Galaxy Tab S8", "X706": "Galaxy Tab S8", "X800": "Galaxy Tab S8+",
    "X900": "Galaxy Tab S8 Ultra", "X906": "Galaxy Tab S8 Ultra", "X710": "Galaxy Tab S9",
    "X716": "Galaxy Tab S9", "X810": "Galaxy Tab S9+", "X910": "Galaxy Tab S9 Ultra",
    "X510": "Galaxy Tab S9 FE", "X820": "Galaxy Tab S10+", "X920": "Galaxy Tab S10 Ultra",
    "X930": "Galaxy Tab S11 Ultra", "X730": "Galaxy Tab S11", "X210": "Galaxy Tab A9+",
}  # fmt: skip
_FIRE_TABLETS = {
    "KFTRWI": "Fire HD 10", "KFTUWI": "Fire HD 10", "KFMAWI": "Fire HD 10",
    "KFRAPWI": "Fire HD 8", "KFONWI": "Fire HD 8", "KFSNWI": "Fire Max 11",
    "KFQUWI": "Fire 7",
}  # fmt: skip
_MAKER = re.compile(r"(?:Google|SAMSUNG|samsung)[- ](?=\S)")
_GALAXY_CODE = re.compile(r"SM-([A-Z]\d{3})\w*$")
# Words that user agents send in place of a model, but that name no model.
_NO_MODEL = re.compile(
    r"(k|wv|(unknown|generic)( \w+)?|undefined|null|none|default|android( \d+)?|linux|windows"
    r"|mobile|phone|tablet|desktop|device|n/?a|\W*)$",
    re.IGNORECASE,
)
# The build of a device, or the maker's system with its version, which some user agents write after
# the model.
_BEHIND = re.compile(r" (?:Build(?:/.*)?|MIUI/.*|OS\d[\d.]*)$")
_KINDS = (
    (
        FormFactor.WEARABLE,
        re.compile(
            r"(Meta |Oculus )?Quest( |$)|Oculus |(?i:pico) |(HTC )?(?i:vive )|Magic Leap |Lynx-R1"
            r"|Galaxy XR|SM-I61\d|A7H10$|A8110$|A9210$|.*watch(\b|\d)|.*\bWatch(\b|\d)"
            r"|TicWatch|Wear OS|sdk_g?wear"
        ),
    ),
    (
        FormFactor.TV,
        re.compile(
            r"Fire TV|BRAVIA|Chromecast|Google TV|Android TV|SHIELD|MiTV|(?i:mi ?box)|AOSP TV"
            r"|sdk_(google_)?a?tv_|Smart ?TV|.* TV( |$)"
        ),
    ),
    (
        FormFactor.TABLET,
        re.compile(
            r"SM-[TXP]\d|Galaxy Tab|Fire |Nexus (7|9|10)$|.*\b(?i:tab|tablet|\w{0,16}pad)\b"
            r"|Lenovo (TB-|YT-)|TB-?\w+$|Pixel C$|Nokia T\d"
        ),
    ),
    (
        FormFactor.PHONE,
        re.compile(
            r"Pixel |Galaxy [SAZMFJN]|SM-[SAGMFNJEC]\d|Nexus [4-6]|[Mm]oto |sdk_gphone"
            r"|(?i:Xiaomi )?(Redmi |Mi [\dAMN])|POCO |(?i:OnePlus )|CPH\d|RMX\d|XQ-"
            r"|Nothing |Nokia |vivo |HONOR "
        ),
    ),
)


def model_name(code: str) -> str:
    """Returns the name by which people know a model. `code` is the model as a user agent or a hint
    names it. If no rule knows the code, the name is the code without the name of the maker, cut at
    64 characters. The name is empty if `code` is no model.
    """
    code = _MAKER.sub("", _BEHIND.sub("", code.strip()))
    if _NO_MODEL.match(code):
        return ""
    if found := _GALAXY_CODE.match(code):
        if found[1].startswith(("R8", "R9", "L")):
            return "Galaxy Watch"
        return _GALAXY.get(found[1], f"SM-{code.rpartition('SM-')[2]}")
    if code.startswith("AFT") and code.isalnum():
        return "Fire TV"
    if code.startswith("KF") and code.isupper() and code.isalnum():
        return _FIRE_TABLETS.get(code, "Fire tablet")
    return code[:64]


def kind_of_model(model: str) -> FormFactor | None:
    """Returns the kind of devices of this model. Returns None if the name of the model does not
    show the kind.
    """
    return next((kind for kind, pattern in _KINDS if pattern.match(model)), None)
