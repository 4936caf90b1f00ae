"""The content of a Redis, read without the service's store."""

from __future__ import annotations

from typing import Any

from tests.support.backends import Backend


async def dump(backend: Backend, prefix: str) -> dict[bytes, Any]:
    """Returns everything below a prefix, by key."""
    reads: dict[bytes, tuple[str, ...]] = {
        b"hash": ("HGETALL",), b"string": ("GET",), b"stream": ("XRANGE", "-", "+"),
    }  # fmt: skip
    found: dict[bytes, Any] = {}
    async with backend.admin() as admin:
        for key in await admin.execute_command("KEYS", f"{prefix}:*"):
            kind = await admin.execute_command("TYPE", key)
            command, *rest = reads[kind if isinstance(kind, bytes) else kind.encode()]
            found[key] = await admin.execute_command(command, key, *rest)
    return found
