"""A network of its own for a campaign, in which servers can be split from each other.

All addresses are in the loopback range. Packets that a split drops go out to a device without a
listener at its other end, so connections hang as they do behind a router that drops packets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_IS_OWN = "CAMPAIGN_HAS_ITS_OWN_NETWORK"
_HOLE, _TABLE = "hole", "66"
_SETUP = (
    "link set lo up",
    f"link add {_HOLE} type veth peer name {_HOLE}-end",
    f"link set {_HOLE} up",
    f"link set {_HOLE}-end up",
    f"addr add 192.0.2.1/24 dev {_HOLE}",
    f"neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev {_HOLE}",
    f"route add default via 192.0.2.2 dev {_HOLE} table {_TABLE}",
    # The rules of a split come before this rule.
    "rule add pref 100 lookup local",
    "rule del pref 0 lookup local",
)


def is_own() -> bool:
    """Returns whether this process runs in such a network."""
    return _IS_OWN in os.environ


def run_in_own(arguments: Sequence[str]) -> int:
    """Runs campaigns in a network of their own. Returns the exit code. Raises NotPermitted."""
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        raise NotPermitted
    command = ["unshare", "--net", sys.executable, "-m", "tests.faults.campaigns", *arguments]
    return subprocess.run(command, env={**os.environ, _IS_OWN: "1"}, check=False).returncode


class NotPermitted(Exception):
    """This user may not make a network."""


def set_up() -> None:
    """Prepares the network that this process runs in."""
    for words in _SETUP:
        _ip(words)
    Path(f"/proc/sys/net/ipv4/conf/{_HOLE}/route_localnet").write_text("1")


@contextmanager
def split(*flows: str) -> Iterator[None]:
    """Drops the packets of these flows. Each flow is a selector of `ip rule`."""
    rules = [f"pref 10 {flow} lookup {_TABLE}" for flow in flows]
    for rule in rules:
        _ip(f"rule add {rule}")
    try:
        yield
    finally:
        for rule in rules:
            _ip(f"rule del {rule}")


def to_port(source: str, port: int) -> tuple[str, str]:
    """The flows between a source and a port."""
    return (
        f"from {source} ipproto tcp dport {port}",
        f"to {source} ipproto tcp sport {port}",
    )


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)
