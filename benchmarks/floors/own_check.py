"""What people write instead of this service: FastAPI, PyJWT and redis-py, in forty lines.

It checks a signature and reads one record; it knows no renewal, no replay, no list of devices and
no event. Served by uvicorn: `uvicorn benchmarks.floors.own_check:app`, with `FLOOR_KEY` (the public
key, PEM) and `FLOOR_REDIS_URL`. An empty endpoint lies beside it.
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
    """Answers and does nothing."""
    return {}


@app.post("/validate")
async def validate(
    access_token: Annotated[str, Body()], device_id: Annotated[str, Body()]
) -> dict[str, object]:
    """Whether the token is good, and its session still there on this device."""
    try:
        claims = jwt.decode(
            access_token, public_key, algorithms=["EdDSA"], audience="session-authority"
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    if await redis.hget(f"floor:{claims['sub']}", device_id) != claims["sid"]:
        raise HTTPException(401)
    return {"active": True, "user_id": claims["sub"], "session_id": claims["sid"]}
