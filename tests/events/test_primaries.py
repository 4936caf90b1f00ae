"""Which partitions have another primary, and which have the same primary after a restart."""

from __future__ import annotations

from session_authority.events.primaries import Changes, Primaries


def test_an_unknown_primary_has_not_changed():
    primaries = Primaries()
    assert primaries.changes(["a:1 run", None, "b:2 run"]) == Changes()
    assert primaries.changes([None, "a:1 run", "b:2 run"]) == Changes()
    assert primaries.changes(["a:1 run", "a:1 run", None]) == Changes()
    assert not primaries.are_others(["a:1 run", None, "b:2 run"])


def test_a_restarted_server_is_distinguished_from_another_server():
    primaries = Primaries(["a:1 run", "a:1 run", "b:2 run"])
    changed = primaries.changes(["a:1 later", "b:2 run", "b:2 run"])
    assert changed == Changes(restarted=frozenset({0}), moved=frozenset({1}))
    assert primaries.changes(["a:1 later", "b:2 run", "b:2 run"]) == Changes()
    assert primaries.are_others(["c:3 run", "b:2 run", "b:2 run"])


def test_where_one_server_has_all_partitions_a_restart_looks_like_a_change():
    """The server's name is only the ID of its run."""
    primaries = Primaries(["run succeeded"] * 3)
    assert primaries.changes(["later succeeded"] * 3) == Changes(moved=frozenset(range(3)))


def test_partitions_of_the_same_primary():
    primaries = Primaries(["a:1 run", None, "b:2 run", "a:1 run", None])
    assert primaries.with_same_primary({0}) == {0, 3}
    assert primaries.with_same_primary({1}) == {1}
    assert primaries.with_same_primary({2, 3}) == {0, 2, 3}
