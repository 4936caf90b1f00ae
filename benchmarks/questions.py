"""The questions for the servers, and the checks of their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.floors.empty_rpc import METHOD, SERVICE
from benchmarks.load.answers import Questions, WrongAnswer, remembering
from benchmarks.population import ADDRESS, AGENT, SignedIn
from session_authority.v1 import session_authority_pb2 as pb

_SERVICE = "/session_authority.v1.SessionAuthorityService"
_CLIENT = pb.ClientInfo(ip_address=ADDRESS, user_agent=AGENT)


def _question(one: SignedIn, *, with_client: bool) -> pb.ValidateSessionRequest:
    return pb.ValidateSessionRequest(
        access_token=one.access_token,
        device_id=str(one.device_id),
        client=_CLIENT if with_client else None,
    )


def _must_be_active(response: pb.ValidateSessionResponse, one: SignedIn) -> None:
    session = response.session
    if not response.active or (session.user_id, session.session_id) != (
        one.user_id,
        one.session_id.hex(),
    ):
        status = pb.SessionStatus.Name(response.status)
        raise WrongAnswer(f"a live session is {status}, or the answer is about another one")


def validations(people: Sequence[SignedIn], *, with_client: bool = False) -> Questions:
    """Validates each session, in turns. A good answer is an active session of this user."""

    def check(number: int, body: bytes) -> None:
        _must_be_active(pb.ValidateSessionResponse.FromString(body), people[number])

    payloads = [_question(one, with_client=with_client).SerializeToString() for one in people]
    return Questions(f"{_SERVICE}/ValidateSession", payloads, remembering(check))


def batches(people: Sequence[SignedIn], size: int, *, with_client: bool = False) -> Questions:
    """Asks batches of `size` validations, in turns."""
    groups = [people[start : start + size] for start in range(0, len(people), size)]

    def check(number: int, body: bytes) -> None:
        results = pb.BatchValidateSessionsResponse.FromString(body).results
        for result, one in zip(results, groups[number], strict=True):
            _must_be_active(result.response, one)

    payloads = [
        pb.BatchValidateSessionsRequest(
            requests=[_question(one, with_client=with_client) for one in group]
        ).SerializeToString()
        for group in groups
    ]
    path = f"{_SERVICE}/BatchValidateSessions"
    return Questions(path, payloads, remembering(check), units=size)


def sign_ins(people: Sequence[SignedIn]) -> Questions:
    """Signs each user in again on the device where the user is signed in already."""

    def check(number: int, body: bytes) -> None:
        response = pb.IssueDeviceResponse.FromString(body)
        if response.device.device_id != str(people[number].device_id) or not response.access_token:
            raise WrongAnswer("a sign-in gave no token, or another device")

    payloads = [
        pb.IssueDeviceRequest(
            user_id=one.user_id, device_id=str(one.device_id), client=_CLIENT
        ).SerializeToString()
        for one in people
    ]
    return Questions(f"{_SERVICE}/IssueDevice", payloads, check)


def sign_outs(users: Sequence[str], devices: int) -> Questions:
    """Asks a RevokeAll for each user. Each user is signed in on `devices` devices."""

    def check(number: int, body: bytes) -> None:
        revoked = pb.RevokeAllResponse.FromString(body).revoked_devices
        if revoked != devices:
            raise WrongAnswer(f"{revoked} devices were signed out, not {devices}")

    payloads = [
        pb.RevokeAllRequest(user_id=user_id, reason="benchmark").SerializeToString()
        for user_id in users
    ]
    return Questions(f"{_SERVICE}/RevokeAll", payloads, check)


def signing_keys() -> Questions:
    """Asks for the signing keys, which needs no signed-in user."""

    def check(_: int, body: bytes) -> None:
        if not pb.GetSigningKeysResponse.FromString(body).keys:
            raise WrongAnswer("a service without keys")

    return Questions(f"{_SERVICE}/GetSigningKeys", [b""], check)


def empty_rpcs() -> Questions:
    """Calls the empty RPC of grpc.aio."""

    def check(_: int, body: bytes) -> None:
        if body:
            raise WrongAnswer("an empty RPC that is not empty")

    return Questions(f"/{SERVICE}/{METHOD}", [b""], check)


def judging_nothing(people: Sequence[SignedIn]) -> Questions:
    """Asks validations of a server that decides nothing."""

    def check(_: int, body: bytes) -> None:
        if body:
            raise WrongAnswer("a validation that should judge nothing")

    payloads = [_question(one, with_client=False).SerializeToString() for one in people]
    return Questions(f"{_SERVICE}/ValidateSession", payloads, check)


def empty_requests() -> Questions:
    """Calls the empty endpoint of the web application."""

    def check(_: int, body: bytes) -> None:
        if body != b"{}":
            raise WrongAnswer("an empty endpoint that is not empty")

    return Questions("/empty", [b""], check)


def own_checks(people: Sequence[SignedIn]) -> Questions:
    """Asks validations of the do-it-yourself check."""

    def check(number: int, body: bytes) -> None:
        answer = json.loads(body)
        if answer.get("session_id") != people[number].session_id.hex() or not answer["active"]:
            raise WrongAnswer("the floor's check says no, or means another session")

    payloads = [
        json.dumps({"access_token": one.access_token, "device_id": str(one.device_id)}).encode()
        for one in people
    ]
    return Questions("/validate", payloads, remembering(check))
