"""A folder of keys."""

from __future__ import annotations

import pytest

from tests.tokens.harness import DAY, NOW, key_named, save


@pytest.fixture
def keys(tmp_path):
    """A folder with a signing key, one that it demoted, one to come, and one that leaked."""
    return save(
        tmp_path / "keys",
        key_named("old", NOW - 20 * DAY),
        key_named("current", NOW - DAY),
        key_named("next"),
        key_named("leaked", NOW - 10 * DAY, revoked=NOW - 9 * DAY),
    )
