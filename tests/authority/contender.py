"""One of several processes that do the same work at the same time.

It is run as `python -m tests.authority.contender URL KEYS PREFIX`. It reads each task from its
input as one line of JSON, and answers with one line. A task also sets the clock of the process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from session_authority.domain.identifiers import parse_uuid
from session_authority.store import connect
from session_authority.tokens import KeySource
from tests.authority.harness import START, Scene
from tests.support.backends import PATIENT, Backend


async def _once(scene: Scene, what: dict[str, Any]) -> Any:
    if what["do"] == "sign in":
        request_id = parse_uuid(what["request_id"])
        issued = await scene.sign_in(UUID(what["device"]), what["user"], request_id=request_id)
        return issued.access_token
    if what["do"] == "renew":
        renewed = await scene.renew(what["token"], what["device"])
        return renewed.status.name, renewed.access_token
    validation = await scene.validate(what["token"], what["device"])
    return validation.status.name, validation.revoked_devices


async def _main(url: str, keys: str, prefix: str) -> None:
    backend = Backend("valkey", url, lambda: connect(url, PATIENT))
    scene = Scene(backend, prefix, KeySource(Path(keys)))
    while line := await asyncio.to_thread(sys.stdin.readline):
        what = json.loads(line)
        scene.clock.now = START + timedelta(seconds=what["at"])
        answers = await asyncio.gather(*(_once(scene, what) for _ in range(what["times"])))
        print(json.dumps(answers), flush=True)
    await scene.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
