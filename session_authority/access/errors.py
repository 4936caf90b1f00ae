"""Defines the error that is raised for policy files and token files."""

from __future__ import annotations

import re

from session_authority.runtime.text import printable

# Matches a caller's token inside a text. An error message must not show a token.
_SHOWN_TOKEN = re.compile(r"sacall_[A-Za-z0-9_-]+", re.ASCII)


class AccessError(Exception):
    """Raised if a policy file or a token file can't be used, or if the tokens can't be changed. The
    message has one line for each fault.

    The message does not show text that looks like a token. Control characters in the message are
    escaped, because a name in a file may contain any characters.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(_SHOWN_TOKEN.sub("sacall_...", printable(fault)) for fault in faults)
        super().__init__("\n".join(self.faults))
