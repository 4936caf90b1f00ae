"""What is wrong with the files of this room."""

from __future__ import annotations

import re

from session_authority.runtime.text import printable

# A token where none belongs, which an error must not show.
_SHOWN_TOKEN = re.compile(r"sacall_[A-Za-z0-9_-]+", re.ASCII)


class AccessError(Exception):
    """A policy or a file of caller tokens that can't be used; the message has a line for each
    fault. Whatever looks like a token is left out of it, and what a terminal would obey is written
    out: names in a file can hold anything.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(_SHOWN_TOKEN.sub("sacall_...", printable(fault)) for fault in faults)
        super().__init__("\n".join(self.faults))
