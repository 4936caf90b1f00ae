"""The rule of generations, explored with random histories: an honest history never raises the
alarm, and no thief stays signed in. Only a store that rolls back again and again may cause an alarm
in an honest history.

Every history depends on its seed only, and a failure prints the seed and the last lines of the
history. Before a change of the rule, run the exploration with TEST_BUDGET=30: that is 6,000 honest
histories, and thousands of the other scenarios.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import pytest

from session_authority.domain.identifiers import device_key
from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.domain.verdicts import ReplayCause
from tests.domain.browsers import NO_MISHAPS, Browser, Mishaps, busy_pauses, pauses
from tests.domain.samples import TABLET
from tests.domain.thieves import GreedyThief, IdleThief, LateThief, LazyThief, PatientThief, Thief
from tests.domain.world import Broken, World
from tests.support.budget import budget

pytestmark = pytest.mark.slow

HISTORIES = budget(200)
STEPS = 400
POLICIES = (SessionLimits(), SessionLimits(), SessionLimits(token_ttl=timedelta(minutes=12)))
# A thief has won if it is neither caught nor locked out by then, although the victim is active.
ENOUGH = 6 * SessionLimits().token_ttl
EVERY = (0.5, 5.0, 25.0, 120.0, 1000.0)
# The probability that new claims are set before a step of a browser.
UPDATES = 0.03


@dataclass
class Explored:
    """The results of many histories."""

    histories: int
    broken: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    alarms: Counter[ReplayCause | None] = field(default_factory=Counter)

    def verify(self, allowed: int = 0) -> None:
        """Fails the test if more than `allowed` histories are broken."""
        if len(self.broken) > allowed:
            shown = "\n\n".join(self.broken[:3])
            pytest.fail(
                f"{len(self.broken)} of {self.histories} histories are broken:\n\n{shown}",
                pytrace=False,
            )


def explore(history: Callable[[int], World], histories: int) -> Explored:
    """Runs the history once for each seed, and collects the results."""
    explored = Explored(histories)
    for seed in range(histories):
        try:
            world = history(seed)
        except Broken as broken:
            explored.broken.append(str(broken))
        else:
            explored.counts += world.counts
            explored.alarms[world.alarm] += 1
    return explored


# Honest users.


def honest_history(
    seed: int,
    *,
    forgets: float = 0,
    forgets_once: bool = False,
    mishaps: Mishaps = NO_MISHAPS,
    policies: tuple[SessionLimits, ...] = POLICIES,
    updates: float = UPDATES,
) -> World:
    """A user with one or two browsers, whose claims change before some steps.

    The store may fall back before any step (`forgets`), or before one step (`forgets_once`).
    """
    world = World(seed, policies[seed % len(policies)])
    fatal = world.random.randrange(STEPS) if forgets_once else -1
    steps = 0

    def before_step() -> None:
        nonlocal steps
        if steps == fatal or (forgets and world.random.random() < forgets):
            world.roll_back()
        steps += 1
        if world.random.random() < updates:
            world.update_session(world.random.choice(browsers).key)

    browsers = [
        Browser(
            world,
            name,
            steps=STEPS,
            pause=pauses,
            owed=not (forgets or forgets_once),
            mishaps=mishaps,
            before_step=before_step,
        )
        for name in ("phone", "laptop")[: 1 + seed % 2]
    ]
    world.run(until=lambda: world.alarm is not None)
    if world.alarm is not None:
        raise world.broken(f"a false alarm: {world.alarm.name}")
    for browser in browsers:
        world.after(600, browser.look_again)
    world.run(until=lambda: world.alarm is not None)
    if world.alarm is not None:
        raise world.broken(f"a false alarm: {world.alarm.name}")
    return world


@pytest.fixture(scope="module")
def honest() -> Explored:
    """The results of honest histories, which several tests verify."""
    return explore(honest_history, HISTORIES)


def test_an_honest_user_raises_no_alarm_and_is_not_locked_out(honest: Explored):
    honest.verify()


def test_the_exploration_reaches_all_kinds_of_events(honest: Explored):
    """Rare events happen often enough to prove something."""
    wanted = {
        "rotation": 50,
        "another copy": 50,
        "update": 5,
        "same token, newer claims": 2,
        "token lost": 5,
        "older cookie written last": 2,
        "mark lost": 5,
        "mark dropped": 5,
        "sign-in that replaces": 2,
        "sign-in repeated": 0.02,
        "validate superseded": 0.5,
        "validate session_ended": 0.2,
        "validate no_session": 0.2,
        "renew active": 50,
        "renew superseded": 0.2,
        "renew session_expired": 0.2,
    }
    seldom = {
        what: honest.counts[what]
        for what, often in wanted.items()
        if honest.counts[what] < often * HISTORIES
    }
    assert not seldom


def test_one_roll_back_of_the_store_raises_no_alarm():
    explored = explore(partial(honest_history, forgets_once=True), HISTORIES // 3)
    explored.verify()
    assert explored.counts["roll-back"] > explored.histories / 2
    assert explored.counts["forwarded"] > explored.histories / 10


def test_many_roll_backs_of_the_store_almost_never_raise_the_alarm():
    """A store that rolls back every few minutes of use is an accepted risk: at most 1 history in
    300 may end in an alarm.
    """
    explored = explore(partial(honest_history, forgets=0.02), HISTORIES // 3)
    explored.verify(allowed=explored.histories // 300)
    assert explored.counts["roll-back"] > explored.histories


def test_a_killed_browser_raises_no_alarm_and_is_not_locked_out():
    """A killed browser's jar falls back to its copy on the disk, which is up to 40 s old."""
    explored = explore(partial(honest_history, mishaps=Mishaps(killed=0.02)), HISTORIES)
    explored.verify()
    assert explored.counts["store went back"] > explored.histories / 2


def test_a_queued_upload_raises_no_alarm_where_only_renewals_raise_it():
    """An upload is sent up to an hour after it was queued, with the token of that earlier time."""
    patient = tuple(replace(limits, replay_alarm=ReplayAlarm.RENEWED) for limits in POLICIES)
    uploads = Mishaps(queues_upload=0.02)
    explored = explore(partial(honest_history, mishaps=uploads, policies=patient), HISTORIES // 3)
    explored.verify()
    assert explored.counts["upload queued"] > explored.histories


# Thieves.


def theft_history(
    seed: int,
    kind: type[Thief],
    *,
    old: bool = False,
    elsewhere: bool = False,
    limits: SessionLimits = POLICIES[0],
    updates: float = UPDATES,
) -> World:
    """A thief copies the cookies of a busy browser at some time, and uses them at once or later. It
    uses them on the same device or on another one. The claims of the session change now and then.

    With `old`, the thief uses the cookies only once the browser has newer ones.
    """
    world = World(seed, limits)
    random = world.random

    def before_step() -> None:
        if random.random() < updates:
            world.update_session(browser.key)

    browser = Browser(
        world,
        "browser",
        steps=1 << 60,
        pause=busy_pauses,
        restless=random.choice((0, 0.003)),
        before_step=before_step,
    )
    thief: Thief | None = None
    is_over = False

    def copy() -> None:
        nonlocal thief
        if browser.jar is None:
            world.after(60, copy)
        else:
            thief = kind(
                world,
                browser.jar,
                every=random.choice(EVERY),
                key=device_key(TABLET) if elsewhere else browser.key,
            )
            wait(thief)

    def wait(thief: Thief) -> None:
        record = world.records.get(browser.key)
        if old and record is not None and record.generation == thief.newest.generation:
            world.after(60, lambda: wait(thief))
        else:
            pause = random.choice((0, 0, random.uniform(0, 600), random.uniform(0, 36_000)))
            world.after(pause, thief.poll)
            world.after(pause + ENOUGH.total_seconds(), end)

    def end() -> None:
        nonlocal is_over
        is_over = True

    world.after(random.uniform(0, 10_000), copy)
    world.run(
        until=lambda: (
            is_over or world.alarm is not None or (thief is not None and thief.is_out_for_good())
        ),
    )
    if thief is None:
        raise world.broken("a false alarm before anything was stolen")
    if elsewhere and thief.last_active is not None:
        raise world.broken("a token was good on another device")
    if (
        is_over
        and thief.last_active is not None
        and world.now - thief.last_active < world.limits.token_ttl
    ):
        raise world.broken(f"a {kind.__name__} that comes every {thief.every} s is still in")
    return world


@pytest.mark.parametrize("kind", [GreedyThief, LazyThief, IdleThief, PatientThief, LateThief])
def test_a_thief_raises_the_alarm_or_is_locked_out(kind: type[Thief]):
    explored = explore(partial(theft_history, kind=kind), HISTORIES // 6)
    explored.verify()
    # More than a third of the thieves must be caught. The others were idle, or came too late.
    assert explored.alarms[None] < explored.histories * 2 / 3


@pytest.mark.parametrize("kind", [GreedyThief, LazyThief, IdleThief, PatientThief, LateThief])
def test_a_thief_is_caught_or_locked_out_where_only_renewals_raise_the_alarm(kind: type[Thief]):
    patient = replace(SessionLimits(), replay_alarm=ReplayAlarm.RENEWED)
    explore(partial(theft_history, kind=kind, limits=patient), HISTORIES // 12).verify()


@pytest.mark.parametrize("kind", [GreedyThief, LazyThief])
def test_a_thief_of_an_old_token_raises_the_alarm_or_is_locked_out(kind: type[Thief]):
    explored = explore(partial(theft_history, kind=kind, old=True), HISTORIES // 6)
    explored.verify()
    assert explored.alarms[ReplayCause.SUPERSEDED_TOKEN] > explored.histories / 4


@pytest.mark.parametrize("kind", [GreedyThief, LazyThief])
def test_a_token_is_never_good_on_another_device(kind: type[Thief]):
    explored = explore(partial(theft_history, kind=kind, elsewhere=True), HISTORIES // 12)
    explored.verify()
    assert explored.alarms[ReplayCause.LEFT_DEVICE] > explored.histories / 4
