"""Encodes and decodes a client for Redis. A client is an end user's browser or app. A client's
record has the facts that the caller sent, and the appearance, which is a description for people.

The appearance is stored, so that the service need not parse user agents for a list of devices. A
device's record stays for months. To save memory, the record has a packed form of the user agent and
of the appearance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from session_authority.domain.appearances.appearance import appearance
from session_authority.domain.appearances.hints import NO_HINTS, Brand, ClientHints
from session_authority.domain.clients import Appearance, Client, FormFactor
from session_authority.domain.fields import MAX_USER_AGENT_BYTES
from session_authority.domain.places import NO_PLACE, Place
from session_authority.internal.v1 import records_pb2
from session_authority.store.phrases import MAX_PACKED_BYTES, REMEMBERED, pack, unpack

_LOOKS = 5
_FORM_FACTORS = {kind.value: kind for kind in FormFactor}


def client_record(client: Client) -> records_pb2.ClientRecord:
    """Returns the protobuf record of a client. The record contains the user agent and the
    appearance, neither of them packed.
    """
    record = _bare_record(client)
    record.user_agent = client.user_agent
    if (looks := _looks_of(client)) is not None:
        record.appearance.CopyFrom(
            records_pb2.AppearanceRecord(
                operating_system=looks.operating_system,
                browser=looks.browser,
                form_factor=looks.form_factor.value,
                model=looks.model,
                name=looks.name,
            )
        )
    return record


def packed_client(client: Client) -> tuple[records_pb2.ClientRecord, bytes, bytes]:
    """Returns the protobuf record of a client, the packed user agent, and the packed appearance. If
    the user agent or the appearance can't be packed, the record itself contains both, and the two
    packed values are empty.
    """
    looks = _looks_of(client)
    agent, packed_looks = pack(client.user_agent), b"" if looks is None else _packed(looks)
    if agent is None or packed_looks is None:
        return client_record(client), b"", b""
    return _bare_record(client), agent, packed_looks


def _bare_record(client: Client) -> records_pb2.ClientRecord:
    """Returns the protobuf record of a client without the user agent and the appearance."""
    return records_pb2.ClientRecord(
        ip_address=client.ip_address,
        display_name=client.display_name,
        app_version=client.app_version,
        client_hints=_hints_record(client.hints),
        place=_place_record(client.place),
    )


def _looks_of(client: Client) -> Appearance | None:
    return appearance(client) if client.user_agent or client.hints != NO_HINTS else None


def _packed(looks: Appearance) -> bytes | None:
    size = len(looks.operating_system) + len(looks.browser) + len(looks.model) + len(looks.name)
    return _looks_packed(looks) if size <= 2 * MAX_USER_AGENT_BYTES else None


@lru_cache(REMEMBERED)
def _looks_packed(looks: Appearance) -> bytes | None:
    """Packs the parts of an appearance, one on each line. The last line is the name. The last line
    is empty if the name is the same as the result of `_usual_name`. Returns None if the appearance
    has no name, or if a part can't be packed or contains a line break.
    """
    kind = looks.form_factor.value
    parts = [looks.operating_system, looks.browser, kind, looks.model, looks.name]
    if not looks.name or any("\n" in part for part in parts):
        return None
    if looks.name == _usual_name(parts):
        parts[-1] = ""
    return pack("\n".join(parts))


def _usual_name(parts: Sequence[str]) -> str:
    system, browser, _, model, _ = parts
    return f"{browser} on {model or system}"


def _unpacked(packed: bytes) -> Appearance | None:
    return _looks_unpacked(packed) if len(packed) <= MAX_PACKED_BYTES else None


@lru_cache(REMEMBERED)
def _looks_unpacked(packed: bytes) -> Appearance | None:
    parts = (unpack(packed) or "").split("\n")
    if len(parts) != _LOOKS:
        return None
    system, browser, form_factor, model, name = parts
    kind = _FORM_FACTORS.get(form_factor, FormFactor.UNKNOWN)
    return Appearance(system, browser, kind, model, name or _usual_name(parts))


def client_beside(record: records_pb2.ClientRecord, agent: bytes, looks: bytes) -> Client:
    """Decodes a client from its record, and from the packed user agent (`agent`) and the packed
    appearance (`looks`) that are stored next to the record.

    If the record itself contains a user agent, the packed user agent and the packed appearance are
    ignored, because they may be out of date. An earlier version of the service, which does not know
    the packed values, leaves these values unchanged when it writes the record.

    If the record contains an appearance but no user agent, an earlier version made this appearance
    from the client hints alone. If there is also a packed user agent, the result has no appearance,
    because no stored appearance fits both the user agent and the hints. Code that shows a client
    without an appearance computes the appearance.
    """
    if record.user_agent:
        return client_of(record)
    user_agent = unpack(agent) or ""
    client = client_of(record, user_agent, _unpacked(looks))
    if user_agent and record.HasField("appearance"):
        return replace(client, appearance=None)
    return client


def _place_record(place: Place) -> records_pb2.PlaceRecord | None:
    if place == NO_PLACE:
        return None
    return records_pb2.PlaceRecord(city=place.city, country_code=place.country_code)


def _hints_record(hints: ClientHints) -> records_pb2.ClientHintsRecord | None:
    if hints == NO_HINTS:
        return None
    record = records_pb2.ClientHintsRecord(
        brands=[records_pb2.BrandRecord(name=b.name, version=b.version) for b in hints.brands],
        platform=hints.platform,
        platform_version=hints.platform_version,
        model=hints.model,
        form_factors=hints.form_factors,
    )
    if hints.mobile is not None:
        record.mobile = hints.mobile
    return record


def client_of(
    record: records_pb2.ClientRecord, user_agent: str = "", looks: Appearance | None = None
) -> Client:
    """Decodes a client from its record. If the record has no user agent, the client gets
    `user_agent`. If the record has no appearance, the client gets `looks`. Earlier versions of the
    service wrote records without an appearance.
    """
    hints = record.client_hints
    return Client(
        ip_address=record.ip_address,
        user_agent=record.user_agent or user_agent,
        display_name=record.display_name,
        app_version=record.app_version,
        hints=_hints(hints) if record.HasField("client_hints") else NO_HINTS,
        appearance=_appearance(record.appearance) if record.HasField("appearance") else looks,
        place=Place(record.place.city, record.place.country_code)
        if record.HasField("place")
        else NO_PLACE,
    )


def _hints(record: records_pb2.ClientHintsRecord) -> ClientHints:
    return ClientHints(
        brands=tuple(Brand(brand.name, brand.version) for brand in record.brands),
        platform=record.platform,
        platform_version=record.platform_version,
        model=record.model,
        mobile=record.mobile if record.HasField("mobile") else None,
        form_factors=tuple(record.form_factors),
    )


def _appearance(record: records_pb2.AppearanceRecord) -> Appearance:
    return Appearance(
        operating_system=record.operating_system,
        browser=record.browser,
        form_factor=_FORM_FACTORS.get(record.form_factor, FormFactor.UNKNOWN),
        model=record.model,
        name=record.name,
    )
