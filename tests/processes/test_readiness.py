"""When a process may answer: each rule by itself, with clocks that only the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from session_authority.access import AccessSource
from session_authority.domain.errors import NotReady, StoreUnavailable
from session_authority.processes.readiness import MAX_CLOCK_SKEW, MAX_UNREADABLE, Readiness
from session_authority.processes.reloading import WatchedFiles
from session_authority.runtime.metrics import Metrics
from session_authority.tokens import KeySource
from tests.processes.harness import add_signing_key

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MS = timedelta(seconds=1), timedelta(milliseconds=1)


class Scene:
    """A process whose clocks stand still."""

    def __init__(self, *, must_verify: bool = False) -> None:
        self.wall, self.uptime = NOON, timedelta(days=3)
        self.readiness = Readiness(
            must_verify=must_verify, clock=lambda: self.wall, uptime=lambda: self.uptime
        )

    def probe(self, *ahead: timedelta) -> None:
        """The primaries answer, and this process's clock is this far ahead of their clocks."""
        self.readiness.note_clocks(self.wall, [self.wall - each for each in ahead])

    def pass_by(self, time: timedelta) -> None:
        self.wall += time
        self.uptime += time

    def is_fit(self) -> bool:
        try:
            self.readiness.refuse_if_unfit()
        except NotReady:
            assert self.readiness.fault() is not None
            return False
        assert self.readiness.fault() is None
        return True


def test_nothing_is_answered_before_the_store_has_sent_its_time():
    scene = Scene()
    with pytest.raises(StoreUnavailable):
        scene.readiness.refuse_if_unfit()
    scene.probe(0 * SECOND)
    assert scene.is_fit()


def test_nothing_is_answered_before_the_store_was_found_safe():
    scene = Scene(must_verify=True)
    scene.probe(0 * SECOND)
    assert not scene.is_fit()
    scene.readiness.note_store("the store is unsafe")
    assert not scene.is_fit()
    scene.readiness.note_store(None)
    assert scene.is_fit()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_that_differs_from_the_clock_of_one_primary_is_wrong(sign: int):
    scene = Scene()
    for skew, fit in ((MAX_CLOCK_SKEW, True), (MAX_CLOCK_SKEW + MS, False), (SECOND, True)):
        scene.probe(0 * SECOND, sign * skew)
        assert scene.is_fit() is fit


@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_of_the_clock_is_noticed_by_the_next_call_and_so_is_its_end(sign: int):
    scene = Scene()
    scene.probe(sign * SECOND)
    scene.pass_by(timedelta(days=1))
    assert scene.is_fit()
    scene.wall += sign * 4 * SECOND
    assert scene.is_fit()
    scene.wall += sign * 10 * MS
    assert not scene.is_fit()
    scene.wall -= sign * 2 * SECOND
    assert scene.is_fit()
    scene.wall += timedelta(hours=sign)
    assert not scene.is_fit()


def test_a_step_that_corrects_a_wrong_clock_needs_no_probe():
    scene = Scene()
    scene.probe(8 * SECOND)
    assert not scene.is_fit()
    scene.wall -= 8 * SECOND
    assert scene.is_fit()


def test_files_must_stay_readable():
    scene = Scene()
    scene.probe(0 * SECOND)
    for _ in range(3):
        scene.readiness.note_readable("keys")
        scene.readiness.note_readable("access")
        scene.pass_by(MAX_UNREADABLE)
        assert scene.is_fit()
    scene.readiness.note_readable("access")
    scene.pass_by(MS)
    assert not scene.is_fit()
    fault = scene.readiness.fault()
    assert fault is not None
    assert fault.startswith("keys can't be read for 5 s")
    scene.readiness.note_readable("keys")
    assert scene.is_fit()


def watched(what: str, folder: Path, scene: Scene) -> WatchedFiles:
    """The keys or the access policy of a running server."""
    add_signing_key(folder / "keys")
    (folder / "access").write_text('[callers.ops]\nroles = ["operator"]\ncertificates = ["a.test"]')
    source = KeySource(folder / "keys") if what == "keys" else AccessSource(folder / "access", None)
    scene.probe(0 * SECOND)
    return WatchedFiles(what, source, Metrics(), scene.readiness.note_readable)


def look_for_a_while(files: WatchedFiles, scene: Scene) -> None:
    for _ in range(20):
        scene.pass_by(MAX_UNREADABLE / 10)
        assert not files.changed()


@pytest.mark.parametrize("what", ["keys", "access"])
def test_readable_but_broken_files_keep_the_process_ready(what: str, tmp_path: Path):
    scene = Scene()
    files = watched(what, tmp_path, scene)
    broken = tmp_path / "access" if what == "access" else tmp_path / "keys" / "half.json"
    broken.write_text("{")
    broken.chmod(0o600)
    look_for_a_while(files, scene)
    assert scene.is_fit()


@pytest.mark.parametrize("what", ["keys", "access"])
def test_missing_files_make_the_process_unready_until_they_are_back(what: str, tmp_path: Path):
    scene = Scene()
    files = watched(what, tmp_path, scene)
    (tmp_path / what).rename(tmp_path / "away")
    look_for_a_while(files, scene)
    assert not scene.is_fit()
    (tmp_path / "away").rename(tmp_path / what)
    files.changed()
    assert scene.is_fit()
