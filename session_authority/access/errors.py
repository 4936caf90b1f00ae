"""The errors of policy files and of files with caller tokens."""

from __future__ import annotations

import re

from session_authority.runtime.text import printable

# A token where none belongs, which an error must not show.
_SHOWN_TOKEN = re.compile(r"sacall_[A-Za-z0-9_-]+", re.ASCII)


class AccessError(Exception):
    """A policy, or a file of caller tokens, can't be used. The message has a line for each fault.

    Text that looks like a token is left out of the message. Control characters are escaped, as a
    name in a file can have any characters.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(_SHOWN_TOKEN.sub("sacall_...", printable(fault)) for fault in faults)
        super().__init__("\n".join(self.faults))
