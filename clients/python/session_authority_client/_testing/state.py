"""Holds the state of the fake service, with its clock."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from session_authority_client.wire import session_authority_pb2 as pb


@dataclass(eq=False)
class Session:
    """A session of the fake service. The generation of a session is 1 at sign-in. A renewal that
    makes the session's next token starts the next generation.
    """

    user_id: str
    device_id: str
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...]
    signed_in_at: datetime
    ends_at: datetime
    replaced: Session | None
    idle_timeout: timedelta | None = None
    generation: int = 1
    session_id: str = field(default_factory=lambda: secrets.token_hex(16))
    renewed_at: datetime = field(init=False)
    last_seen_at: datetime = field(init=False)
    first_seen_at: datetime | None = None
    told_at: datetime | None = None
    holder: object | None = None
    predecessor: object | None = None
    updated_claims: Mapping[str, str] | None = None
    has_newer_claims: bool = False

    def __post_init__(self) -> None:
        self.renewed_at = self.last_seen_at = self.signed_in_at

    @property
    def expires_at(self) -> datetime:
        """Returns the time at which the session ends if it is not used again."""
        if self.idle_timeout is None:
            return self.ends_at
        return min(self.ends_at, self.last_seen_at + self.idle_timeout)


@dataclass(eq=False)
class Token:
    """A token that the fake service has made. Each token is a new copy of its generation, except a
    token from `State.reissue`, which is the same copy as the original token.
    """

    session: Session
    generation: int
    issued_at: datetime
    ends_at: datetime
    claims: Mapping[str, str]
    copy: object = field(default_factory=object)
    aged: bool = False
    expired: bool = False
    replayed: bool = False


@dataclass
class Device:
    """A device in the list of a user's devices. `session` is None after the session on the device
    was ended. `session` may also be an expired session.
    """

    device_id: str
    client: pb.ClientInfo
    created_at: datetime
    signed_in_at: datetime
    last_seen_at: datetime
    display_name: str = ""
    session: Session | None = None
    last_alarm: tuple[datetime, pb.ReplayCause] | None = None


@dataclass
class SignIn:
    """A sign-in whose request had a `request_id`. If the request comes again, from any browser or
    app, the fake service sends the same response. After the session was used, replaced or ended,
    the fake service refuses the repeated request.
    """

    request: pb.IssueDeviceRequest
    session: Session
    response: pb.IssueDeviceResponse


@dataclass
class State:
    """Holds the users, sessions and events of the fake service, and its clock. A reset of the fake
    service replaces this object by a new State.
    """

    devices: dict[str, dict[str, Device]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    sign_ins: dict[str, SignIn] = field(default_factory=dict)
    events: list[pb.Event] = field(default_factory=list)
    assigned: set[str] = field(default_factory=set)
    passed: timedelta = timedelta()

    def now(self) -> datetime:
        """Returns the time of the fake service: the machine's time plus the time that a test has
        let pass.
        """
        return datetime.now(UTC) + self.passed

    def told(self, moment: datetime) -> datetime:
        """Converts a time of the fake service to a time of the machine's clock, which no test
        changes. The fake service converts the times of sessions, tokens and devices in its
        responses. So after `pass_time`, responses have earlier times of sessions, tokens and
        devices than before. The fake service does not convert the times of events and of proofs.
        """
        return moment - self.passed

    def is_live(self, device: Device) -> bool:
        """Returns True if the user is signed in on the device."""
        return device.session is not None and self.now() < device.session.expires_at

    def hand_out(self, session: Session, ttl: timedelta) -> tuple[str, Token]:
        """Makes a token of the session's current generation. Returns the text of the token, and the
        token itself.
        """
        now = self.now()
        ends_at = min(now + ttl, session.ends_at)
        token = Token(session, session.generation, now, ends_at, session.claims)
        return self._remember(token), token

    def reissue(self, token: Token) -> tuple[str, Token]:
        """Makes the same token again, with the newest claims of its session. Returns the text of
        the new token, and the new token itself.
        """
        token = replace(token, claims=token.session.claims)
        return self._remember(token), token

    def _remember(self, token: Token) -> str:
        text = f"fake.{secrets.token_urlsafe(16)}"
        self.tokens[text] = token
        return text

    def end_sessions(self, user_id: str, spared: str = "") -> int:
        """Ends a user's sessions on all devices except the device `spared`. Returns the number of
        sessions that were ended.
        """
        live = [
            device
            for device in self.devices.get(user_id, {}).values()
            if self.is_live(device) and device.device_id != spared
        ]
        for device in live:
            device.session = None
        return len(live)
