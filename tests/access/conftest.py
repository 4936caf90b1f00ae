"""Files of the access package with the contents that a test gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WritePolicy = Callable[..., Path]


@pytest.fixture
def policy(tmp_path: Path) -> WritePolicy:
    """A function that writes a policy file and returns its path."""

    def write(text: str | bytes, name: str = "access.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
