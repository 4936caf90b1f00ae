"""Every option of the gRPC server has a name that gRPC knows: gRPC ignores unknown options without
an error.
"""

from __future__ import annotations

from pathlib import Path

import grpc

from session_authority.processes.grpc_server import server_options
from session_authority.rpc import Capacity


def test_every_option_has_a_name_that_grpc_knows():
    (library,) = [
        path.read_bytes() for path in (Path(grpc.__file__).parent / "_cython").glob("cygrpc.*.so")
    ]
    names = [name for name, _ in server_options(Capacity(), share_port=False)]
    assert [name for name in names if name.encode() + b"\0" not in library] == []
