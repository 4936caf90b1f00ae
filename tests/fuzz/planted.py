"""Targets with a planted fault, to show that a fault would be found. None of them is among the
targets that `make fuzz` runs.
"""

from __future__ import annotations

from session_authority.store import codec
from session_authority.store.codec import UnreadableRecord
from tests.fuzz.records import check_session
from tests.fuzz.target import Target
from tests.store.samples import session

SEED = codec.encode_session(session())


def _forgetting_the_version(raw: bytes) -> object:
    return codec.decode_session(SEED[:1] + raw[1:])


def _fault(data: bytes) -> None:
    try:
        check_session(data, _forgetting_the_version)
    except UnreadableRecord:
        return


def _hang(data: bytes) -> None:
    while data[:1] == b"\1":
        pass


_kept: list[bytes] = []


def _leak(data: bytes) -> None:
    _kept.append(b"x" * (1 << 16))


def _harmless(data: bytes) -> None:
    del data


FAULT, HANG, LEAK = Target(_fault, [SEED]), Target(_hang, [SEED]), Target(_leak, [SEED])
HARMLESS = Target(_harmless, [SEED])
