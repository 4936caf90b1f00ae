"""Judges answers about sessions: which tokens were accepted, which were refused, and whom the
answers named.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.history import Call, Kind, Role
from tests.faults.knowledge import Knowledge

LOST = "lost: "
_PRESENTS = (Kind.VALIDATE, Kind.RENEW)
# Refusals of a session that has ended.
_ENDED = {"NO_SESSION", "SESSION_ENDED", "SESSION_EXPIRED"}
# Refusals that an honest browser never gets.
_NEVER = {"TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "WRONG_DEVICE"}


def active_after_end(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """No session is ACTIVE that had ended before the call started."""
    for call in known.of(*_PRESENTS):
        session = known.session_of(call)
        if call.outcome != "ACTIVE" or session is None:
            continue
        slack = known.terms.cache_bound if call.cached else 0.0
        end = known.had_ended(session, call.started - slack)
        if end is not None:
            yield f"ACTIVE after {_shown(end.call)}", call


def wrong_refusal(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """No session has ended unless a call may have ended it, and no honest browser is denied for
    another reason.
    """
    for call in known.of(*_PRESENTS):
        session = known.session_of(call)
        if session is None:
            continue
        lost = _lost(known, session.session)
        if call.outcome in _ENDED and not known.may_have_ended(session, call.ended):
            yield f"{lost}{call.outcome} of a live session", call
        if call.role is not Role.HONEST or call.ended > known.robbed_at:
            continue
        if call.outcome in _NEVER:
            yield f"{call.outcome} for an honest browser", call
        elif call.outcome == "REPLAYED" and session.session not in known.stuck:
            yield f"{LOST if known.history.may_lose else ''}REPLAYED for an honest browser", call
        elif call.outcome == "SUPERSEDED" and not _newer_may_exist(known, call):
            yield f"{lost}SUPERSEDED by nothing", call


def _lost(known: Knowledge, session: str) -> str:
    """The prefix for a session whose sign-in a failover lost."""
    sign_ins = (c for c in known.of(Kind.SIGN_IN) if c.given and c.given.session == session)
    return LOST if known.history.may_lose and all(map(known.is_lost, sign_ins)) else ""


def _newer_may_exist(known: Knowledge, refused: Call) -> bool:
    """Returns whether a newer token of the session, or a newer sign-in on its device, may be in
    use.
    """
    token = refused.presented
    assert token is not None
    for call in known.calls:
        if call is refused or call.started > refused.ended:
            continue
        if call.kind is Kind.SIGN_IN:
            other = call.given is None or call.given.session != token.session
            if other and call.device == token.device:
                return True
        if call.kind is Kind.RENEW and call.presented is not None:
            same = call.presented.session == token.session
            if same and (call.given is not None or call.is_unknown):
                return True
    return False


def elsewhere(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """A token is never good on a device other than its own."""
    for call in known.of(*_PRESENTS):
        token = call.presented
        if call.outcome == "ACTIVE" and token is not None and call.device != token.device:
            yield "ACTIVE on another device", call


def missed_replay(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """A token is gone if its session has a token two generations newer, or if the next token was in
    use for long. A token that is gone is never good again, and never denied without an alarm. Also,
    a live token that another device presents is never denied without an alarm.
    """
    if known.history.may_lose:
        return  # After a failover, a session may have an older record.
    gone = _gone_generations(known)
    for call in known.of(*_PRESENTS):
        token, session = call.presented, known.session_of(call)
        if call.role is Role.HONEST or token is None or session is None:
            continue
        is_gone = token.generation <= gone.before(token.session, call.started)
        lives = not known.may_have_ended(session, call.ended)
        quiet = ("SUPERSEDED", "WRONG_DEVICE") if lives else ()
        if is_gone and call.outcome in ("ACTIVE", *quiet):
            yield f"{call.outcome} for generation {token.generation}, which is gone", call
        elif call.outcome == "WRONG_DEVICE" and lives and not _newer_may_exist(known, call):
            yield "a live token left its device, and no alarm was raised", call


class _gone_generations:  # noqa: N801 - used as a function
    """For a session and a moment: the newest generation whose tokens count as replays."""

    _USES = 3  # One use may leave no mark: marks are written in the background, and may be lost.

    def __init__(self, known: Knowledge) -> None:
        self._moments: dict[str, list[tuple[float, int]]] = {}
        given: dict[tuple[str, int, str], float] = {}
        uses: dict[tuple[str, int], list[float]] = {}
        terms = known.terms
        for call in sorted(known.calls, key=lambda call: call.ended):
            if call.given is not None:
                token = call.given
                given.setdefault((token.session, token.generation, token.copy), call.ended)
                self._note(token.session, call.ended, token.generation - 2)
            used = call.presented
            if call.outcome != "ACTIVE" or used is None or call.cached:
                continue
            if call.kind is not Kind.VALIDATE or call.role is Role.ONLOOKER:
                continue
            made = given.get((used.session, used.generation, used.copy))
            if made is None or call.started - made < terms.durable_after + 1:
                continue
            if known.history.in_fault(call.started) or known.history.in_fault(call.ended + 1):
                continue
            moments = uses.setdefault((used.session, used.generation), [])
            moments.append(call.ended)
            if len(moments) == self._USES:
                self._note(used.session, call.ended + terms.alarm_after + 1, used.generation - 1)

    def _note(self, session: str, moment: float, generation: int) -> None:
        self._moments.setdefault(session, []).append((moment, generation))

    def before(self, session: str, moment: float) -> int:
        noted = self._moments.get(session, ())
        return max((generation for at, generation in noted if at < moment), default=0)


def foreign_answer(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """An answer names the user, device and session of the presented token. It names the generation
    of this token, or of the new token that it brings.
    """
    for call in known.calls:
        if call.failed:
            continue
        token, named, given = call.presented, call.named, call.given
        if call.kind in _PRESENTS and token is not None and named is not None:
            expected = given or token
            if (named.user, named.session) != (token.user, token.session):
                yield "the answer names another session", call
            elif named.device != call.device or named.generation != expected.generation:
                yield "the answer names another device or generation", call
        if given is None:
            continue
        if given.user != call.user:
            yield "the token is another user's", call
        elif call.kind is Kind.SIGN_IN and (given.device, given.generation) != (call.device, 1):
            yield "the token is not the first one for this device", call
        elif token is not None and given.session != token.session:
            yield "the token is of another session", call
        elif token is not None and given.generation != token.generation + 1:
            yield f"generation {given.generation} for {token.generation}", call


def wrong_list(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """A list has every session that no call may have ended, and no session that had ended."""
    for call in known.of(Kind.LIST):
        if call.failed:
            continue
        listed = {session for _, session in call.listed}
        if not listed <= known.sessions.keys() | _unanswered(known):
            yield "the list has a session that is not this user's", call
        for session in known.sessions.values():
            if session.session in listed:
                end = known.had_ended(session, call.started)
                if end is not None:
                    yield f"listed after {_shown(end.call)}", call
            elif session.answered < call.started and not known.may_have_ended(session, call.ended):
                yield f"{_lost(known, session.session)}a live session is not listed", call


def _unanswered(known: Knowledge) -> set[str]:
    """All sessions of the log. Some of their sign-ins had no answer: only the log knows them."""
    signed_in = (e for e in known.history.log if e.type == "DEVICE_SIGNED_IN")
    return {event.session for event in signed_in}


def blind_revoke(known: Knowledge) -> Iterator[tuple[str, Call]]:
    """A revocation finds every session that no call may have ended."""
    for call in known.of(Kind.REVOKE_ALL, Kind.REVOKE_DEVICE):
        if call.failed or call.revoked:
            continue
        for session in known.sessions.values():
            spared = (call.kind is Kind.REVOKE_ALL) == (session.device == call.device)
            if spared or session.answered >= call.started:
                continue
            if not _ended_by_another(known, session.session, call):
                yield f"{_lost(known, session.session)}it found no session to end", call


def _ended_by_another(known: Knowledge, session: str, call: Call) -> bool:
    found = known.sessions[session]
    return any(
        end.call is not call
        and end.call.started < call.ended
        and end.until > found.begun
        and end.covers(found)
        for end in known.ends
    )


def _shown(call: Call) -> str:
    return f"{call.kind.value} #{call.number} answered {call.outcome} at {call.ended:.3f}"
