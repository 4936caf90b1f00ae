"""The description of the API in OpenAPI 3.1, from `openapi.json`, with the paths of an app."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _shipped() -> Any:
    path = files("session_authority_client.devices") / "openapi.json"
    return json.loads(path.read_text("utf-8"))


def document(mount: str) -> dict[str, Any]:
    """The document of the API below a mount."""
    return {**_shipped(), "servers": [{"url": mount}]}
