"""The errors of policy files and of files with caller tokens."""

from __future__ import annotations

import re

from session_authority.runtime.text import printable

# A token in a place where it does not belong. An error must not show it.
_SHOWN_TOKEN = re.compile(r"sacall_[A-Za-z0-9_-]+", re.ASCII)


class AccessError(Exception):
    """A policy file or a file of caller tokens can't be used, or a change of the tokens is
    impossible. The message has a line for each fault.

    Text that looks like a token is left out of the message. Control characters are escaped, as a
    name in a file may contain any characters.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(_SHOWN_TOKEN.sub("sacall_...", printable(fault)) for fault in faults)
        super().__init__("\n".join(self.faults))
