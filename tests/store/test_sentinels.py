"""Which of several Sentinels the store believes."""

from __future__ import annotations

import pytest

from session_authority.store.driver.sentinels import View, believed

OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


@pytest.mark.parametrize(
    ("views", "latest_epoch", "address"),
    [
        ([View(5, OLD, True)] * 3, 0, OLD),
        ([View(5, OLD, True)] * 3, 5, OLD),
        # One Sentinel knows a later failover, and the others do not yet.
        ([View(5, OLD, True), View(6, NEW, True), View(5, OLD, True)], 5, NEW),
        ([View(6, NEW, True)], 5, NEW),
        # The Sentinel that leads the failover names the old primary to the end, and says that it
        # fails over.
        ([View(6, OLD, False), View(6, NEW, True), View(5, OLD, True)], 5, NEW),
        ([View(6, OLD, False), View(5, OLD, True), View(5, OLD, True)], 5, None),
        # The primary is down, or about to be replaced, as far as the Sentinels with the latest news
        # know.
        ([View(5, OLD, False)] * 3, 5, None),
        ([View(5, OLD, False), View(5, OLD, True), View(5, OLD, False)], 5, OLD),
        # Only Sentinels that missed the failover answer.
        ([View(5, OLD, True)], 6, None),
        ([View(5, OLD, True)] * 2, 6, None),
        # The group was created again.
        ([View(0, OLD, True)] * 3, 6, OLD),
        ([], 0, None),
        ([], 6, None),
    ],
)
def test_the_sentinel_that_knows_the_latest_failover_is_believed(
    views: list[View], latest_epoch: int, address: tuple[str, int] | None
) -> None:
    view = believed(views, 3, latest_epoch)
    assert (view and view.address) == address
