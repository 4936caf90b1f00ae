"""Over the wire, a kept answer has the same bytes as a judged answer, alone and in a batch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from session_authority.domain.errors import NotReady
from session_authority.store import SessionStore
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import LAPTOP_AGENT, SERVICE, Stage

MS = timedelta(milliseconds=1)
METHOD = f"/{SERVICE.full_name}/ValidateSession"
CLIENTS = {
    "no client": None,
    "a client": pb.ClientInfo(ip_address="203.0.113.7", user_agent=LAPTOP_AGENT),
    "a client with hints": pb.ClientInfo(
        user_agent=LAPTOP_AGENT, client_hints=pb.ClientHints(platform="Windows", mobile=False)
    ),
    "a client that can't be shown": pb.ClientInfo(
        ip_address="nowhere", user_agent="\x00" * 9000, display_name="\u202e" * 200
    ),
}


def asked(signed_in: pb.IssueDeviceResponse, **more: Any) -> pb.ValidateSessionRequest:
    return pb.ValidateSessionRequest(
        access_token=signed_in.access_token, device_id=signed_in.device.device_id, **more
    )


async def raw_answer(stage: Stage, request: pb.ValidateSessionRequest) -> bytes:
    found: bytes = await stage.channel.unary_unary(METHOD)(request.SerializeToString(), timeout=20)
    return found


def kept(stage: Stage) -> float:
    found = stage.metrics.registry.get_sample_value("session_authority_kept_answers_total")
    assert found is not None
    return found


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
async def test_a_kept_answer_has_the_bytes_of_the_judged_one(
    stage: Stage, client: pb.ClientInfo | None
):
    ada = await stage.sign_in(claims={"tier": "gold"}, auth_methods=["pwd"])
    request = asked(ada, client=client)
    judged = await raw_answer(stage, request)
    assert kept(stage) == 0
    assert {await raw_answer(stage, request) for _ in range(3)} == {judged}
    assert kept(stage) == 3
    assert stage.counted("ValidateSession") == {"OK": 4}
    read = pb.ValidateSessionResponse.FromString(judged)
    assert read.active
    assert read.session.claims == {"tier": "gold"}


async def test_every_kind_of_client_details_gets_the_same_answer(stage: Stage):
    ada = await stage.sign_in()
    await stage.validate(ada)
    before = await stage.dump()
    answers = {await raw_answer(stage, asked(ada, client=client)) for client in CLIENTS.values()}
    assert len(answers) == 1
    assert kept(stage) == len(CLIENTS)
    assert await stage.dump() == before


async def test_a_batch_uses_kept_answers_and_judges_the_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    ada, ben, eve = [await stage.sign_in(user_id) for user_id in ("ada", "ben", "eve")]
    for signed_in in (ada, ben, eve):
        await stage.validate(signed_in)
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="eve"))
    fresh = await stage.sign_in("fay")
    items = [asked(ben), asked(eve), pb.ValidateSessionRequest(), asked(ada), asked(fresh)] * 3
    reads: list[int] = []
    ask_many = SessionStore.ask_many

    async def noted(self: SessionStore, questions: Any) -> Any:
        reads.append(len(questions))
        return await ask_many(self, questions)

    monkeypatch.setattr(SessionStore, "ask_many", noted)
    batch = pb.BatchValidateSessionsRequest(requests=items)
    answer = await stage.call("BatchValidateSessions", batch)
    statuses = [pb.SessionStatus.Name(r.response.status) for r in answer.results]
    active, missing = "SESSION_STATUS_ACTIVE", "SESSION_STATUS_TOKEN_MISSING"
    assert statuses == [active, "SESSION_STATUS_NO_SESSION", missing, active, active] * 3
    users = [r.response.session.user_id for r in answer.results]
    assert users == ["ben", "", "", "ada", "fay"] * 3
    assert reads == [9], "one read for all"
    assert kept(stage) == 6


async def test_after_a_renewal_the_answer_about_the_old_token_recommends_a_renewal(stage: Stage):
    ada = await stage.sign_in()
    stage.clock.advance(timedelta(minutes=5))
    for _ in range(3):
        assert (await stage.validate(ada)).active
    renewed = await stage.call(
        "RenewSession",
        pb.RenewSessionRequest(access_token=ada.access_token, device_id=ada.device.device_id),
    )
    assert renewed.rotated
    validation = await stage.validate(ada)
    assert validation.active
    assert validation.renew_recommended, "the kept answer, which recommends no renewal, is not used"


async def test_an_unready_process_gives_no_kept_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    ada = await stage.sign_in()
    await stage.validate(ada)
    await stage.validate(ada)
    assert kept(stage) == 1

    def unfit() -> None:
        raise NotReady

    monkeypatch.setattr(stage.server._authorizer, "_refuse_if_unfit", unfit)
    refusal = await stage.refused("ValidateSession", asked(ada))
    assert refusal.reason == "NOT_READY"
    assert kept(stage) == 1
