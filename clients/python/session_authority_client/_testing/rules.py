"""Holds the rules of the service with its default settings. The rules decide the status of a token,
and check the contents of fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from unicodedata import category

from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._testing.state import Session, State, Token
from session_authority_client.wire import session_authority_pb2 as pb

# The times of the service: its default settings, and times that no setting changes.
SESSION_TTL = timedelta(days=30)
GRACE = timedelta(seconds=30)
DURABLE_AFTER = timedelta(minutes=3)
ALARM_AFTER = timedelta(minutes=5)
ALARM_MEMORY = timedelta(days=28)
_LEEWAY = timedelta(seconds=30)
_MAX_USER_ID_LENGTH = 255
_MAX_DISPLAY_NAME_LENGTH = 100
_MAX_APP_VERSION_LENGTH = 64
_MAX_CITY_LENGTH = 100
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
# Python calls these characters printable, but they are invisible.
_UNSEEN = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f")
# These characters are invisible, but Persian words and many emoji need them.
_JOINERS = dict.fromkeys((0x200C, 0x200D))


def judge(
    state: State, text: str, device_id: str, *, renewing: bool = False, observe_only: bool = False
) -> tuple[pb.SessionStatus, Token | None]:
    """Returns the status of a token that a device presented. The second value of the result is the
    token if its status is ACTIVE, else None.

    With `renewing`, this function ignores that a token has expired. If the token's session has
    expired, this function removes the session from its device, except with `observe_only`.
    """
    token, presented, now = state.tokens.get(text), uuid_of(device_id), state.now()
    if token is None:
        missing = pb.SESSION_STATUS_TOKEN_INVALID if text else pb.SESSION_STATUS_TOKEN_MISSING
        return missing, None
    if not renewing and (token.expired or now >= token.ends_at + _LEEWAY):
        return pb.SESSION_STATUS_TOKEN_EXPIRED, None
    device = state.devices[token.session.user_id].get(token.session.device_id)
    if presented is None or device is None or device.session is None:
        return pb.SESSION_STATUS_NO_SESSION, None
    if not state.is_live(device):
        if not observe_only:
            device.session = None
        return pb.SESSION_STATUS_SESSION_EXPIRED, None
    verdict = _judge_on_its_device(device.session, token, now)
    if presented != device.device_id:
        spared = presented in state.assigned or token.session is not device.session
        left = verdict in (pb.SESSION_STATUS_ACTIVE, pb.SESSION_STATUS_REPLAYED) and not spared
        verdict = pb.SESSION_STATUS_REPLAYED if left else pb.SESSION_STATUS_WRONG_DEVICE
    return verdict, token if verdict == pb.SESSION_STATUS_ACTIVE else None


def replay_cause(state: State, token: Token, presented: str | None) -> pb.ReplayCause:
    """Returns why a token counts as replayed. `presented` is the ID of the device that presented
    the token, or None. Call this function before the alarm ends the session.
    """
    live = state.devices[token.session.user_id][token.session.device_id].session
    if live is None or presented != token.session.device_id:
        return pb.REPLAY_CAUSE_LEFT_DEVICE
    if token.session is not live:
        return pb.REPLAY_CAUSE_REPLACED_SESSION
    behind = live.generation - token.generation
    settled = (live.holder, live.predecessor)[behind] if behind < 2 else None
    if settled not in (None, token.copy):
        return pb.REPLAY_CAUSE_SECOND_COPY
    return pb.REPLAY_CAUSE_SUPERSEDED_TOKEN


def _judge_on_its_device(live: Session, token: Token, now: datetime) -> pb.SessionStatus:
    """Returns the status of a token. `live` is the live session on the device for which the token
    was made.
    """
    seen_for = None if live.first_seen_at is None else now - live.first_seen_at
    if token.session is not live:
        if token.session is not live.replaced:
            return pb.SESSION_STATUS_SESSION_ENDED
        crossed = token.issued_at > live.signed_in_at - ALARM_AFTER
        if crossed or seen_for is None or seen_for < ALARM_AFTER:
            return pb.SESSION_STATUS_SUPERSEDED
        return pb.SESSION_STATUS_REPLAYED
    behind = live.generation - token.generation
    settled = (live.holder, live.predecessor)[behind] if behind < 2 else None
    if token.replayed or behind > 1 or settled not in (None, token.copy):
        return pb.SESSION_STATUS_REPLAYED
    if behind == 0 or seen_for is None or seen_for < GRACE:
        return pb.SESSION_STATUS_ACTIVE
    return pb.SESSION_STATUS_SUPERSEDED if seen_for < ALARM_AFTER else pb.SESSION_STATUS_REPLAYED


def mark_seen(token: Token, now: datetime, *, settles: bool) -> None:
    """Notes that a client presented a token of the current generation. If the token is at least
    `DURABLE_AFTER` old, or if a test has aged it, its generation counts as seen. If `settles` is
    True and the generation is at least `ALARM_AFTER` old, this copy becomes the holder, unless the
    generation already has a holder.
    """
    session = token.session
    if token.aged or now - token.issued_at >= DURABLE_AFTER:
        session.first_seen_at = session.first_seen_at or now
    if settles and session.holder is None and now - session.renewed_at >= ALARM_AFTER:
        session.holder = token.copy


def rotate_if_due(token: Token, now: datetime) -> bool:
    """Starts the next generation of the token's session if a new token is due. A new token is due
    if the generation is at least `ALARM_AFTER` old, or if a test has aged the token or made it
    expire. Returns True if a new generation was started.
    """
    session = token.session
    if not (token.aged or token.expired or now - session.renewed_at >= ALARM_AFTER):
        return False
    session.generation, session.first_seen_at = session.generation + 1, None
    session.holder, session.predecessor = None, token.copy
    session.renewed_at, session.has_newer_claims = now, False
    return True


def uuid_of(text: str) -> str | None:
    """Returns a device ID as the service writes it, or None if the text is no device ID."""
    return canonical_device_id(text) or None


def broken_fields(fields: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns the fields that break rules, each with its rule. `fields` has the values of a
    request's fields.
    """
    return [(name, rule) for name, value in fields.items() if (rule := _RULES[name](value))]


def _user_id_rule(value: str) -> str:
    if not value:
        return "must not be empty"
    if len(value) > _MAX_USER_ID_LENGTH:
        return f"must have at most {_MAX_USER_ID_LENGTH} characters"
    hidden = [
        c
        for c in value.translate(_JOINERS)
        if c in _UNSEEN or (not c.isprintable() and category(c) != "Zs")
    ]
    ends = value[0], value[-1]
    unseen_end = any(end.isspace() or ord(end) in _JOINERS for end in ends)
    if hidden or unseen_end or category(value[0])[0] == "M":
        return (
            "must have no control or other unprintable characters, and no white space at the ends"
        )
    return ""


def _device_id_rule(value: str) -> str:
    return "" if uuid_of(value) else "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000"


def cleaned(value: str) -> str:
    """Returns a text for display. Each sequence of white space becomes one space. White space at
    the ends of the text is removed. Characters that Python calls unprintable are removed, except
    the joiners U+200C and U+200D.
    """
    shown = "".join(
        " " if letter.isspace() else letter
        for letter in value
        if letter.isspace() or letter.isprintable() or ord(letter) in _JOINERS
    )
    return " ".join(shown.split())


def shown_client(client: pb.ClientInfo) -> pb.ClientInfo:
    """Returns the description of a client, nearly as the service stores it. Unprintable characters
    are removed from all texts except the client hints. The display name, the app version and the
    city are cut to their maximum lengths. A malformed country code becomes empty. Unlike the
    service, this function does not cut the user agent and the client hints, and does not parse the
    IP address. This function refuses no value.
    """
    shown = pb.ClientInfo()
    shown.CopyFrom(client)
    shown.ip_address, shown.user_agent = cleaned(client.ip_address), cleaned(client.user_agent)
    shown.display_name = cleaned(client.display_name)[:_MAX_DISPLAY_NAME_LENGTH].strip()
    shown.app_version = cleaned(client.app_version)[:_MAX_APP_VERSION_LENGTH].strip()
    if client.HasField("place"):
        code = client.place.country_code.strip()
        shown.place.city = cleaned(client.place.city)[:_MAX_CITY_LENGTH].strip()
        shown.place.country_code = code.upper() if _COUNTRY.fullmatch(code) else ""
    return shown


def _display_name_rule(value: str) -> str:
    if len(cleaned(value)) > _MAX_DISPLAY_NAME_LENGTH:
        return f"must have at most {_MAX_DISPLAY_NAME_LENGTH} characters"
    seen = cleaned(value) or not value or value.isspace()
    return "" if seen else "must have a character that can be seen"


# The functions that check the values of fields, by field name. Each function returns the rule that
# a value breaks, or an empty text if the value breaks no rule.
_RULES: Mapping[str, Callable[[str], str]] = {
    "user_id": _user_id_rule,
    "device_id": _device_id_rule,
    "display_name": _display_name_rule,
}
