"""The proxies as people run them: the real program, with the shipped configuration. Only its ports
are replaced.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.gateway_demo import PORTS, PROXIES, binary, configured
from tests.support.backends import missing
from tests.support.ports import free_port
from tests.support.waiting import wait_for

PROXY, APP, GATEWAY_HTTP, GATEWAY_GRPC, ADMIN = PORTS
PROGRAMS = tuple(sorted(PROXIES))
_PATIENCE = 40.0  # Seconds.


@contextmanager
def running(
    name: str, folder: Path, ports: Mapping[int, int], change: Callable[[str], str] = str
) -> Iterator[int]:
    """Runs the proxy until the end of the block. Yields its port. `change` changes the text of the
    configuration, as a comment in the configuration describes.
    """
    program, *arguments = PROXIES[name]
    try:
        path = binary(program)
    except RuntimeError:
        missing(name)
        raise
    port = free_port()
    folder.mkdir(parents=True)
    place = configured(name, folder, {PROXY: port, ADMIN: free_port(), **ports})
    for file in filter(Path.is_file, place.rglob("*")):
        file.write_text(change(file.read_text()))
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [path, *arguments],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            start_new_session=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return _routes(port)

        wait_for(ready, f"{name} to answer", _PATIENCE)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        finally:
            process.kill()


def _routes(port: int) -> bool:
    """True once the proxy has read its routes: some proxies listen earlier."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/public/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
