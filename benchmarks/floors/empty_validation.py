"""The service with a ValidateSession that decides nothing.

It shows what an RPC costs on the service's own server, including its guard, before the RPC does any
work.

Run as a process with the service's settings: `python -m benchmarks.floors.empty_validation`.
"""

from __future__ import annotations

import sys
from typing import Any

from session_authority.cli import main
from session_authority.rpc.service import SessionAuthorityService
from session_authority.v1 import session_authority_pb2 as pb


async def _judge_nothing(
    service: SessionAuthorityService, request: pb.ValidateSessionRequest, context: Any
) -> pb.ValidateSessionResponse:
    del service, request, context
    return pb.ValidateSessionResponse()


if __name__ == "__main__":
    SessionAuthorityService.ValidateSession = _judge_nothing  # type: ignore[method-assign, assignment]
    sys.argv[1:] = ["serve"]
    main()
