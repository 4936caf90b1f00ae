"""Proves that standing tasks work on the grpcio of the interpreter that runs this.

The service's own check is run, some times, as its parts race each other. Uses nothing else of the
service: this runs on versions that the rest of the project does not.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC tells of every connection that it closes
sys.dont_write_bytecode = True
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import grpc  # noqa: E402  the path comes first

# The room without its front, which imports all that the service needs.
_rpc = ModuleType("session_authority.rpc")
_rpc.__path__ = [str(ROOT / "session_authority" / "rpc")]
sys.modules[_rpc.__name__] = _rpc

from session_authority.rpc.acceptor_check import check  # noqa: E402

ROUNDS = 10


async def _check() -> None:
    for _ in range(ROUNDS):
        await check()


if __name__ == "__main__":
    asyncio.run(_check())
    if "--quiet" not in sys.argv:
        print(f"Standing tasks work on grpcio {grpc.__version__}.")
