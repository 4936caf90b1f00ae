"""Proves that standing tasks work on the grpcio of the interpreter that runs this script.

The service's own check runs several times, because its parts race each other. The script uses
nothing else of the service, so it also runs on versions that the rest of the project does not
support.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC logs every connection that it closes
sys.dont_write_bytecode = True
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import grpc  # noqa: E402  the path comes first

# The package without its `__init__`, which imports everything that the service needs.
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
