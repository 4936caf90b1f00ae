"""What a caller says about the end user's client, and what its user agent says.

Four texts with a NUL between them: address, user agent, display name, version. None of them is
refused. The kept values do not change when they are checked again, keep to the limits, and can be
stored and shown.
"""

from __future__ import annotations

from ipaddress import ip_address

from session_authority.domain.appearances.appearance import read_appearance
from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.fields import (
    MAX_APP_VERSION_CHARACTERS,
    MAX_DISPLAY_NAME_CHARACTERS,
    MAX_USER_AGENT_BYTES,
)
from session_authority.domain.text import is_printable
from session_authority.rpc import messages
from session_authority.store import codec
from session_authority.v1 import session_authority_pb2 as pb
from tests.appearances.corpus import lines
from tests.fuzz.target import Target
from tests.store.samples import device


def check(data: bytes) -> None:
    """Checks a client."""
    parts = data.decode(errors="replace").split("\0", 3)
    address, agent, name, version = parts + [""] * (4 - len(parts))
    client = _client(address, agent, name, version)
    again = _client(client.ip_address, client.user_agent, client.display_name, client.app_version)
    assert again == client, "it changes when it is checked again"
    assert client.ip_address == "" or str(ip_address(client.ip_address)) == client.ip_address
    assert len(client.user_agent.encode()) <= MAX_USER_AGENT_BYTES
    assert is_printable(client.user_agent + client.display_name + client.app_version)
    assert len(client.display_name) <= MAX_DISPLAY_NAME_CHARACTERS
    assert len(client.app_version) <= MAX_APP_VERSION_CHARACTERS
    looks = read_appearance.__wrapped__(client.user_agent, client.hints)
    assert len(looks.operating_system) + len(looks.browser) <= 2 * MAX_USER_AGENT_BYTES
    pb.Device(operating_system=looks.operating_system, browser=looks.browser).SerializeToString()
    record: DeviceRecord = device(last_client=client)
    assert codec.decode_device(codec.encode_device(record)) == record


def _client(address: str, agent: str, name: str, version: str) -> Client:
    message = pb.ClientInfo(
        ip_address=address, user_agent=agent, display_name=name, app_version=version
    )
    return messages.presented(pb.RenewSessionRequest(client=message), "").client


WORDS = """
Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko) Chrome/ Mobile Safari/ Firefox/ Android
iPhone iPad Windows NT Macintosh; Linux CrOS HbbTV/ SMART-TV PlayStation Xbox Watch SM-X Build/
Dalvik/ bot spider okhttp/ MSIE Trident/ Opera OPR/ Edg/ ; ) %eth0 ::ffff: 127.0.0.1
"""
TARGET = Target(
    check,
    seeds=[
        "\0".join(parts).encode()
        for parts in [
            ("203.0.113.7", "curl/8.5.0", "Pixel 8", "4.12.0"),
            ("::ffff:203.0.113.7", "", "👩‍💻 می‌خواهم", ""),
            ("2001:db8::1", "Mozilla/5.0 (;;;)", "", "1"),
            *(("", line.user_agent, "", "") for line in lines("agents.txt")[::10]),
        ]
    ],
    words=WORDS.encode().split(),
)
