"""The check that people write instead of this service: FastAPI, PyJWT and redis-py, in forty lines.

It checks a signature and reads one record. It has no renewals, no detection of replays, no list of
devices and no events. A second endpoint is empty.

Served by uvicorn: `uvicorn benchmarks.floors.own_check:app`, with `FLOOR_KEY` (the public key, PEM)
and `FLOOR_REDIS_URL`.
"""

from __future__ import annotations

import os
from typing import Annotated, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Body, FastAPI, HTTPException
from redis.asyncio import Redis

app = FastAPI()
redis = Redis.from_url(os.environ["FLOOR_REDIS_URL"], decode_responses=True)
public_key = cast("Ed25519PublicKey", load_pem_public_key(os.environ["FLOOR_KEY"].encode()))


@app.post("/empty")
async def empty() -> dict[str, bool]:
    """Answers with an empty object and does nothing."""
    return {}


@app.post("/validate")
async def validate(
    access_token: Annotated[str, Body()], device_id: Annotated[str, Body()]
) -> dict[str, object]:
    """Answers with the session if the token is valid and the session is live on this device."""
    try:
        claims = jwt.decode(
            access_token, public_key, algorithms=["EdDSA"], audience="session-authority"
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    if await redis.hget(f"floor:{claims['sub']}", device_id) != claims["sid"]:
        raise HTTPException(401)
    return {"active": True, "user_id": claims["sub"], "session_id": claims["sid"]}
