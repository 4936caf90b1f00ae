"""Kept answers: one is given only while judging the token again would give the same answer. The
store is read each time.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from session_authority.domain.clients import Client
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.requests import AsPresented
from session_authority.domain.verdicts import SessionStatus
from session_authority.tokens import (
    Algorithm,
    KeySource,
    Tokens,
    add_key,
    generate,
    promote,
    revoke,
)
from tests.authority.harness import (
    ACTOR,
    CLIENT,
    HOUR,
    LAPTOP,
    MINUTE,
    PHONE,
    SECOND,
    START,
    USER,
    Scene,
)
from tests.support.backends import Backend

ACTIVE, NO_SESSION = SessionStatus.ACTIVE, SessionStatus.NO_SESSION
MS = timedelta(milliseconds=1)


async def kept_of(scene: Scene, device_id: Any = PHONE) -> str:
    """Signs in, and returns the token, whose validation is now a kept answer."""
    token = (await scene.sign_in(PHONE)).access_token
    validation, was_kept = await scene.serve(token, device_id)
    assert (validation.status, was_kept) == (ACTIVE, False)
    return token


async def test_a_steady_session_is_answered_from_the_kept_answer(scene: Scene) -> None:
    token = await kept_of(scene)
    stored = await scene.dump()
    judged = await scene.validate(token)
    for _ in range(3):
        assert await scene.serve(token) == (judged, True)
    assert await scene.dump() == stored
    counted = scene.metrics.registry.get_sample_value
    assert counted("session_authority_kept_answers_total") == 3
    active = {"status": "active"}
    assert counted("session_authority_verdicts_total", active) == 5


async def test_another_spelling_of_the_device_id_is_judged_anew(scene: Scene) -> None:
    token = await kept_of(scene, str(PHONE).upper())
    assert (await scene.serve(token, str(PHONE).upper()))[1]
    assert not (await scene.serve(token, str(PHONE)))[1]
    for text in (f" {PHONE}", f"{{{PHONE}}}", PHONE.hex):
        for _ in range(2):
            validation, was_kept = await scene.serve(token, text)
            assert (validation.status, was_kept) == (ACTIVE, False)


async def test_a_kept_answer_is_not_given_to_another_or_an_invalid_device_id(scene: Scene) -> None:
    token = await kept_of(scene)
    for text in ("", "x" * 36, str(LAPTOP)):
        validation, was_kept = await scene.serve(token, text, observe_only=True)
        assert validation.status is not ACTIVE
        assert not was_kept


async def test_an_observing_validation_is_always_judged_anew(scene: Scene) -> None:
    token = await kept_of(scene)
    assert not (await scene.serve(token, observe_only=True))[1]
    assert (await scene.serve(token))[1]


CHANGES: dict[str, Callable[[Scene, Scene], Awaitable[object]]] = {
    "revoke all": lambda _, other: other.authority.revoke_all(
        USER, except_device_id=None, reason="", forget=False, actor=ACTOR
    ),
    "revoke the device": lambda _, other: other.authority.revoke_device(
        USER, PHONE, reason="", forget=True, actor=ACTOR
    ),
    "sign in": lambda _, other: other.sign_in(PHONE),
    "change the claims": lambda _, other: other.authority.update_session(
        USER, PHONE, {"tier": "gold"}, ACTOR
    ),
    "lose the session": lambda one, _: one.put_back(None),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_write_of_another_process_is_seen_at_once(
    scene_with: Callable[..., Scene], change: str
) -> None:
    one, other = scene_with(), scene_with()
    token = await kept_of(one)
    assert (await one.serve(token))[1]
    await CHANGES[change](one, other)
    validation, was_kept = await one.serve(token)
    assert not was_kept
    assert validation == await one.validate(token)


async def test_a_client_with_old_claims_is_advised_to_renew_at_each_validation(
    scene: Scene,
) -> None:
    token = await kept_of(scene)
    for tier in ("gold", "plain"):
        await scene.authority.update_session(USER, PHONE, {"tier": tier}, ACTOR)
        for _ in range(3):
            validation, _ = await scene.serve(token)
            assert validation.renew_recommended
            assert validation.session is not None
            assert not validation.session.token.claims
    renewed = await scene.renew(token)
    assert renewed.access_token is not None
    assert (await scene.serve(renewed.access_token))[0].renew_recommended
    await scene.renew(renewed.access_token)
    for _ in range(3):
        validation, _ = await scene.serve(renewed.access_token)
        assert not validation.renew_recommended
        assert validation.session is not None
        assert validation.session.token.claims == {"tier": "plain"}


async def test_a_session_that_another_process_ended_as_replayed_is_over(
    scene_with: Callable[..., Scene],
) -> None:
    one, other = scene_with(), scene_with()
    token = await kept_of(one)
    assert (await other.validate(token, LAPTOP)).status is SessionStatus.REPLAYED
    assert (await one.serve(token))[0].status is NO_SESSION


async def test_a_touch_is_written_when_it_is_due(scene: Scene) -> None:
    token = await kept_of(scene)
    signed_in_at = scene.clock.now
    scene.clock.advance(scene.limits.touch_interval - MS)
    assert (await scene.serve(token))[1]
    session = await scene.session()
    assert session is not None
    assert session.last_seen_at == signed_in_at
    scene.clock.advance(MS)
    assert not (await scene.serve(token))[1]
    session = await scene.session()
    assert session is not None
    assert session.last_seen_at == scene.clock.now


async def test_a_passive_request_does_not_touch_its_session(scene: Scene) -> None:
    token = await kept_of(scene)
    before = await scene.dump()
    scene.clock.advance(scene.limits.touch_interval)
    assert (await scene.serve(token, passive=True))[1]
    assert await scene.dump() == before
    assert not (await scene.serve(token))[1], "the answer to a passive request was given for a use"
    assert await scene.dump() != before


async def test_a_mark_that_was_lost_is_written_at_the_next_use(scene: Scene) -> None:
    token = (await scene.sign_in(PHONE)).access_token
    before = await scene.raw_session()
    scene.clock.advance(scene.limits.touch_interval)
    assert not (await scene.serve(token))[1]
    marked = await scene.raw_session()
    assert marked != before
    await scene.put_back(before)
    assert not (await scene.serve(token))[1]
    assert await scene.raw_session() == marked


async def test_the_first_durable_use_is_marked(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(touch_interval=HOUR)
    token = await kept_of(scene)
    scene.clock.advance(3 * MINUTE - MS)
    assert (await scene.serve(token))[1]
    scene.clock.advance(MS)
    assert not (await scene.serve(token))[1]
    session = await scene.session()
    assert session is not None
    assert session.first_seen_at == scene.clock.now


async def test_a_clock_that_goes_back_gets_no_kept_answer(scene: Scene) -> None:
    token = await kept_of(scene)
    scene.clock.advance(-MS)
    assert not (await scene.serve(token))[1]


async def test_no_kept_answer_is_given_after_the_token_expired(
    scene_with: Callable[..., Scene],
) -> None:
    scene = scene_with(touch_interval=HOUR * 2)
    token = await kept_of(scene)
    scene.clock.advance(HOUR + 30 * SECOND - MS)
    found = [await scene.serve(token) for _ in range(3)]
    assert [was_kept for _, was_kept in found] == [False, False, True], (
        "the first validation writes a mark"
    )
    assert {validation.status for validation, _ in found} == {ACTIVE}
    scene.clock.advance(MS)
    validation, was_kept = await scene.serve(token)
    assert (validation.status, was_kept) == (SessionStatus.TOKEN_EXPIRED, False)


async def test_a_kept_answer_is_given_to_any_client(
    scene_with: Callable[..., Scene],
) -> None:
    """Judging would store no other client either: the next touch that is due stores the client."""
    elsewhere = Client("198.51.100.9", "curl/9.0", "Pixel 9", "5.0")
    one, other = scene_with(), scene_with()
    token = await kept_of(one)
    device = await one.device()
    assert device is not None
    assert device.last_client == CLIENT
    judged = await other.validate(token, client=elsewhere)
    assert await one.device() == device
    assert await one.serve(token) == (judged, True)
    one.clock.advance(one.limits.touch_interval)
    await one.validate(token, client=elsewhere)
    device = await one.device()
    assert device is not None
    assert device.last_client == elsewhere


async def test_a_kept_answer_is_not_given_while_the_store_is_unavailable(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await kept_of(scene)

    async def away(_: object) -> None:
        raise StoreUnavailable

    async def all_away(questions: Sequence[object]) -> list[Exception]:
        return [StoreUnavailable() for _ in questions]

    monkeypatch.setattr(scene.store, "ask", away)
    monkeypatch.setattr(scene.store, "ask_many", all_away)
    asked = AsPresented(token, str(PHONE))
    with pytest.raises(StoreUnavailable):
        await scene.authority.kept_answer(asked)
    answers = await scene.authority.kept_answers([asked, AsPresented("", ""), asked])
    assert [type(answer) for answer in answers] == [StoreUnavailable, type(None), StoreUnavailable]


async def test_a_key_of_another_type_holds_no_session(scene: Scene) -> None:
    token = await kept_of(scene)
    name = scene.keys.sessions(USER)
    await scene.client.execute_command("DEL", name)
    await scene.client.execute_command("SET", name, "of another type")
    asked = AsPresented(token, str(PHONE))
    assert await scene.authority.kept_answers([asked]) == [None]
    assert (await scene.serve(token))[0].status is NO_SESSION


async def test_each_of_many_kept_answers_is_compared_with_its_own_record(scene: Scene) -> None:
    tokens = {user: (await scene.sign_in(PHONE, user)).access_token for user in ("ada", "ben")}
    for user, token in tokens.items():
        asked = AsPresented(token, str(PHONE))
        validation = await scene.validate(token)
        scene.authority.keep_answer(asked, validation, user.encode())
    texts = tokens["ben"], "nonsense", tokens["ada"], tokens["ben"]
    many = [AsPresented(text, str(PHONE)) for text in texts]
    assert await scene.authority.kept_answers(many) == [b"ben", None, b"ada", b"ben"]
    await scene.put_back(None, user_id="ben")
    assert await scene.authority.kept_answers(many) == [None, None, b"ada", None]
    assert await scene.authority.kept_answers([]) == []


async def test_kept_answers_are_dropped_when_the_signing_keys_change(
    stage: Backend, prefix: str, tmp_path: Path
) -> None:
    keys = [generate(Algorithm.HS256, START) for _ in range(2)]
    for key in keys:
        add_key(tmp_path / "keys", key)
    promote(tmp_path / "keys", keys[0].kid, START - HOUR)
    source = KeySource(tmp_path / "keys")
    scene = Scene(stage, prefix, source)
    try:
        token = await kept_of(scene)
        promote(tmp_path / "keys", keys[1].kid, START)
        source.refresh()
        assert not (await scene.serve(token))[1]
        assert (await scene.serve(token))[1]
        revoke(tmp_path / "keys", keys[0].kid, START)
        source.refresh()
        assert (await scene.serve(token))[0].status is SessionStatus.TOKEN_INVALID
    finally:
        await scene.close()


@pytest.mark.parametrize("user_id", ["ada", "\N{SNAKE}" * 255])
async def test_the_counted_size_of_kept_answers_is_an_upper_bound(
    scene: Scene, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept answers never use more memory than the size that is counted for them."""
    count, answer = 200, bytes(300)
    counted: list[int] = []
    keep = Tokens.keep

    def noted(self: Tokens, text: str, kept: object, size_bytes: int) -> None:
        counted.append(size_bytes)
        keep(self, text, kept, size_bytes)

    monkeypatch.setattr(Tokens, "keep", noted)
    first = (await scene.sign_in(PHONE, user_id)).access_token
    validation = await scene.validate(first)
    session = validation.session
    assert session is not None
    texts = []
    for copy in range(1, count + 1):
        texts.append(scene.tokens.sign(replace(session.token, copy=copy)))
        scene.tokens.verify(texts[-1], scene.clock())
    gc.collect()
    tracemalloc.start()
    try:
        for text in texts:
            found = await scene.validate(text)
            asked = AsPresented(text, str(PHONE).upper())
            scene.authority.keep_answer(asked, found, bytes(answer) + text[-4:].encode())
        del found, asked, text
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(counted) == count
    assert sum(counted) / 3 < held <= sum(counted)
