"""Parses hosts and ports for listening, and recognizes loopback addresses."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Self

MAX_PORT = 65535


class Listen:
    """A host and a port on which a server listens, such as `127.0.0.1:50051` or `[::1]:50051`. With
    port 0, the system chooses a free port.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @classmethod
    def parse(cls, value: object) -> Self:
        """Parses a text `HOST:PORT`, or returns a Listen unchanged. Raises ValueError for any other
        value.
        """
        if isinstance(value, cls):
            return value
        host, colon, port = str(value).rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if (
            not colon
            or not host
            or (":" in host and not bracketed)
            or not port.isascii()
            or not port.isdecimal()
        ):
            raise ValueError("must be HOST:PORT, like 127.0.0.1:50051 or [::1]:50051")
        if int(port) > MAX_PORT:
            raise ValueError(f"must have a port up to {MAX_PORT}")
        return cls(host[1:-1] if bracketed else host, int(port))

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the address."""
        return is_loopback(self.host)

    def with_port(self, port: int) -> Listen:
        """Returns an address with the same host and another port."""
        return Listen(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str, *, mapped: bool = True) -> bool:
    """Returns True if `host` is `localhost`, `::1`, or an address in 127.0.0.0/8. With `mapped`,
    also returns True for an IPv6 address that contains an address in 127.0.0.0/8, such as
    `::ffff:127.0.0.1` (RFC 4291 §2.5.5.2).
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None)
    # Since Python 3.13, `address.is_loopback` checks the IPv4 address inside an IPv6 address, even
    # without `mapped`.
    if inner is not None:
        return mapped and bool(inner.is_loopback)
    return address.is_loopback
