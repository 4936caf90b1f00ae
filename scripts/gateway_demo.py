"""Shows the gateway at work, for `make gateway-demo`: a development service, a gateway, and a proxy
with its shipped configuration, in front of a three-line app and its sign-in page.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from types import FrameType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from docs.examples.gateway.app import app
from docs.examples.gateway.sign_in import sign_in
from session_authority_client import SessionAuthority

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "deploy" / "gateway"
# The command that starts each proxy in a folder with its files.
PROXIES: Mapping[str, Sequence[str]] = {
    "envoy": ("envoy", "-c", "envoy.yaml", "--use-dynamic-base-id", "-l", "warning"),
    "nginx": ("nginx", "-p", ".", "-c", "nginx.conf", "-g", "daemon off;"),
    "caddy": ("caddy", "run", "--config", "Caddyfile"),
    "haproxy": ("haproxy", "-db", "-f", "haproxy.cfg"),
    "traefik": ("traefik", "--configFile=traefik.yaml"),
}
# The ports in the shipped files: the port of the proxy, the port of the app, the two ports of the
# gateway, and the port of Envoy's admin interface.
PORTS = (8000, 8080, 8081, 8082, 9901)
START_SECONDS = 60
# Long, because a machine that shows a demo may be busy.
PATIENT = timedelta(seconds=10)
REVOKE = ".venv/bin/session-authority devices revoke NAME --all --reason demo"
GATEWAY = """\
[authority]
address = "{authority}"
timeout = "4s"

[http]
listen = "127.0.0.1:{http}"

[grpc]
listen = "127.0.0.1:{grpc}"

[flow]
sign_in_url = "/sign-in"
trusted_proxies = ["127.0.0.1"]

[flow.cookies]
insecure = true  # for http://localhost alone

[devices]
path = "/account/devices"
"""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Prints nothing."""


def free_ports(wanted: Sequence[int]) -> dict[int, int]:
    """Maps each wanted port to itself, or to a free port if the wanted port is in use."""
    with ExitStack() as stack:
        found = {}
        for port in wanted:
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            found[port] = probe.getsockname()[1]
        return found


@contextmanager
def running(
    command: Sequence[str], folder: Path, name: str, ready: Callable[[], bool]
) -> Iterator[None]:
    """Starts a process, and stops it in the end. Raises RuntimeError if it does not start."""
    log = folder / f"{name}.log"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def app_server(port: int, authority: SessionAuthority) -> Iterator[None]:
    """Serves the app and the sign-in page."""
    page = sign_in(authority, insecure=True)

    def both(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return (page if environ["PATH_INFO"] == "/sign-in" else app)(environ, start_response)

    server = make_server("127.0.0.1", port, both, _Server, _Quiet)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def answers(url: str) -> Callable[[], bool]:
    """A function that returns True if a URL answers with 200."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return ready


def accepts(port: int) -> Callable[[], bool]:
    """A function that returns True if a port of this machine accepts connections."""

    def ready() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    return ready


def configured(proxy: str, folder: Path, ports: Mapping[int, int]) -> Path:
    """Copies the shipped files of a proxy, and replaces their ports. Returns the copy's folder."""
    target = folder / proxy
    shutil.copytree(SHIPPED / proxy, target)
    names = re.compile(rf"\b({'|'.join(map(str, ports))})\b")
    for path in target.rglob("*"):
        if path.is_file():
            path.write_text(names.sub(lambda found: str(ports[int(found[1])]), path.read_text()))
    return target


def binary(name: str) -> str:
    """The path of a program. Raises RuntimeError if the program is not installed."""
    beside = Path(sys.executable).with_name(name)
    places = f"{os.environ.get('PATH', '')}:/usr/sbin"
    found = str(beside) if beside.exists() else shutil.which(name, path=places)
    if found is None:
        raise RuntimeError(f"there is no {name}; `make backends` installs it")
    return found


@contextmanager
def demo(proxy: str) -> Iterator[tuple[str, str]]:
    """Runs the whole demo. Yields the URL for a browser, and the address of the service."""
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        ports = free_ports(PORTS)
        service = free_ports([50051])[50051]
        web, app_port, http, grpc, _ = (ports[port] for port in PORTS)
        command = [sys.executable, "-c", "from session_authority.cli import main; main()"]
        address = f"127.0.0.1:{service}"
        stack.enter_context(
            running(
                [*command, "dev", "--listen", address, "--data-dir", str(folder / "data")],
                folder,
                "service",
                accepts(service),
            )
        )
        authority = stack.enter_context(SessionAuthority(address, timeout=PATIENT))
        stack.enter_context(app_server(app_port, authority))
        (folder / "gateway.toml").write_text(
            GATEWAY.format(authority=address, http=http, grpc=grpc)
        )
        stack.enter_context(
            running(
                [*command, "gateway", "--config", "gateway.toml"],
                folder,
                "gateway",
                answers(f"http://127.0.0.1:{http}/readyz"),
            )
        )
        program, *arguments = PROXIES[proxy]
        stack.enter_context(
            running(
                [binary(program), *arguments],
                configured(proxy, folder, ports),
                proxy,
                answers(f"http://localhost:{web}/sign-in"),
            )
        )
        yield f"http://localhost:{web}/", address


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Runs the demo until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxy", choices=sorted(PROXIES), default="envoy")
    proxy: str = parser.parse_args().proxy
    handler: Callable[[int, FrameType | None], None] = _stop
    signal.signal(signal.SIGTERM, handler)
    try:
        with demo(proxy) as (url, address):
            print(f"Open {url} in a browser, and sign in with any name.", flush=True)
            print(f"The service is at {address}. To see somebody signed out elsewhere:")
            print(f"  {REVOKE} --address {address}")
            print("Press Ctrl-C to stop.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("Stopped.")
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
