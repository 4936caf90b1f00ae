"""Makes the OpenAPI 3.1 description of the API of the page "My devices". The description is the
contents of `openapi.json` with the path of the app's page.
"""

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
    """Returns the OpenAPI document of the API below the path `mount`."""
    return {**_shipped(), "servers": [{"url": mount}]}
