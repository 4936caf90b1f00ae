"""Single figures that are compared with no other variant: bytes in Redis, start-up, memory."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import redis

from benchmarks import questions, watch
from benchmarks.accounting import resident_bytes
from benchmarks.load.answers import WrongAnswer
from benchmarks.load.loops import closed_loop, connected
from benchmarks.population import SignedIn
from benchmarks.rounds import Results
from benchmarks.stage import Kind, Running, ServerSpec, Stage
from benchmarks.suites import Sizes
from tests.support.ports import free_port

_DEVICES = 3
_REVOCATIONS_A_SECOND = 20.0
# Bytes around a message: HTTP/2 frames with indexed header fields, and gRPC's prefix.
_REQUEST_BYTES, _ANSWER_BYTES = 9 + 7 + 9 + 5, 9 + 6 + 9 + 5 + 9 + 1
# `hash-max-listpack-value`: the default of Redis, and a value that keeps hashes of devices compact,
# too.
_DEFAULT_BYTES, _PACKED_BYTES = 64, 512


def measure_facts(stage: Stage, sizes: Sizes, folder: Path, results: Results) -> None:
    """Measures all facts and adds them to the results. Raises WrongAnswer."""
    results.facts["start-up seconds"] = [
        _start_up(stage, folder / "dev") for _ in range(sizes.start_ups + 1)
    ][1:]  # the first start also makes a key
    shutil.rmtree(folder / "dev")
    for name, with_device, packed in (
        ("bytes of a session", False, False),
        ("bytes of a session with its device", True, False),
        ("bytes of a session with its device, packed", True, True),
    ):
        found = _bytes_of_a_session(stage, sizes.memory_users, with_device, packed)
        results.facts[name] = [found]
    watched = watch.measure(sizes.watchers, _REVOCATIONS_A_SECOND, sizes.watch_seconds)
    delays = statistics.quantiles(watched.told.found, n=100)
    if len(watched.told.found) < watched.told.expected:
        raise WrongAnswer("an event reached no watcher")
    results.facts["ms until an event reaches its watchers, median"] = [delays[49]]
    results.facts["ms until an event reaches its watchers, p99"] = [delays[98]]
    server = stage.start(ServerSpec())
    people = stage.store().population.add(["measured"])
    try:
        server.until_answered()
        _measure_bytes(server, people, results)
        results.facts["MiB of a fresh server"] = [resident_bytes(server.process_ids) / 2**20]
    finally:
        server.stop()


def _measure_bytes(server: Running, people: Sequence[SignedIn], results: Results) -> None:
    """Measures the bytes of a validation with `client` and of its answer, without TCP and TLS."""
    asked = questions.validations(people, with_client=True)
    answers: list[bytes] = []

    def check(number: int, body: bytes) -> None:
        asked.check(number, body)
        answers.append(body)

    with connected(server.port, asked, 1, server.tls) as connections:
        closed_loop(connections, replace(asked, check=check), 1, 60.0, calls=1)
    results.facts["bytes of a request"] = [float(len(asked.payloads[0]) + _REQUEST_BYTES)]
    results.facts["bytes of an answer"] = [float(len(answers[0]) + _ANSWER_BYTES)]


def _start_up(stage: Stage, folder: Path) -> float:
    """Returns the seconds from the start of a process to its first answer."""
    port = free_port()
    program = Path(sys.executable).with_name("session-authority")
    command = [str(program), "dev", "--listen", f"127.0.0.1:{port}", "--data-dir", str(folder)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Running(ServerSpec(Kind.SERVICE), port, stage.store(), process)
    try:
        server.until_answered()
        return time.perf_counter() - began
    finally:
        server.stop()


def _bytes_of_a_session(stage: Stage, users: int, with_device: bool, packed: bool) -> float:
    """Returns how much memory each session needs in Redis if each user has three devices."""
    store = stage.store("memory")
    client = store.client
    assert isinstance(client, redis.Redis)
    # otherwise Redis frees old memory while new data is written
    client.config_set("lazyfree-lazy-user-flush", "no")
    client.flushall()
    client.config_set("hash-max-listpack-value", _PACKED_BYTES if packed else _DEFAULT_BYTES)
    before = client.info("memory")["used_memory"]
    names = [f"user-{number}" for number in range(users)]
    store.population.add(names, _DEVICES, with_device=with_device, tokens=False)
    added = client.info("memory")["used_memory"] - before
    return float(added) / (users * _DEVICES)
