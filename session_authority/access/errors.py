"""What is wrong with the files of this room."""

from __future__ import annotations


class AccessError(Exception):
    """A policy or a file of caller tokens that can't be used; the message has a line for each fault. Holds no token."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
