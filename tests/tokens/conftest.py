"""A folder of keys."""

from __future__ import annotations

import pytest

from tests.tokens.harness import DAY, NOW, key_named, save


@pytest.fixture
def keys(tmp_path):
    """A folder with a key that signs, a demoted key, a published key, and a revoked key."""
    return save(
        tmp_path / "keys",
        key_named("old", NOW - 20 * DAY),
        key_named("current", NOW - DAY),
        key_named("next"),
        key_named("leaked", NOW - 10 * DAY, revoked=NOW - 9 * DAY),
    )
