"""The proxies as people run them: the real program, with the configuration that is shipped. Only
its ports are replaced.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.backends import missing
from tests.support.ports import free_port
from tests.support.waiting import wait_for

SHIPPED = Path(__file__).parents[3] / "deploy" / "gateway"
# Names of the ports in the shipped files.
PROXY, APP, GATEWAY_HTTP, GATEWAY_GRPC, ADMIN = 8000, 8080, 8081, 8082, 9901
_PORT = re.compile(r"\b(8000|8080|8081|8082|9901)\b")
_PATIENCE = 40.0  # seconds


@dataclass(frozen=True, slots=True)
class Program:
    """How a proxy is started in a folder with its files."""

    name: str
    binary: str
    arguments: tuple[str, ...]


PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        Program("envoy", "envoy", ("-c", "envoy.yaml", "--use-dynamic-base-id", "-l", "warning")),
        Program("nginx", "nginx", ("-p", ".", "-c", "nginx.conf", "-g", "daemon off;")),
        Program("caddy", "caddy", ("run", "--config", "Caddyfile")),
        Program("traefik", "traefik", ("--configFile=traefik.yaml",)),
        Program("haproxy", "haproxy", ("-db", "-f", "haproxy.cfg")),
    )
}


def _binary(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = (
        str(beside)
        if beside.exists()
        else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    )
    if found is None:
        missing(name)
    assert found is not None
    return found


def configured(
    program: str, folder: Path, ports: Mapping[int, int], change: Callable[[str], str] = str
) -> None:
    """Copies the shipped files of a program into a folder. `change` is for tests of a variant that
    the shipped file names in a comment.
    """
    shutil.copytree(SHIPPED / program, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            text = _PORT.sub(lambda found: str(ports[int(found[1])]), path.read_text())
            path.write_text(change(text))


@contextmanager
def running(
    name: str, folder: Path, ports: Mapping[int, int], change: Callable[[str], str] = str
) -> Iterator[int]:
    """The proxy, until it is no longer needed. Its port."""
    program = PROGRAMS[name]
    binary = _binary(program.binary)
    port = free_port()
    configured(name, folder, {PROXY: port, ADMIN: free_port(), **ports}, change)
    log = folder.with_name(f"{folder.name}.txt")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [binary, *program.arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            start_new_session=True,
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            return _routes(port)

        wait_for(answers, f"{name} to listen", _PATIENCE)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        finally:
            process.kill()


def _routes(port: int) -> bool:
    """True once it has read its routes: some programs listen before."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/public/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
