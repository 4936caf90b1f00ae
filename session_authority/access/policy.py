"""Combines the policy file and the callers' tokens into the permissions of all callers. A call that
the policy does not allow is denied.

If a file changes and is broken, the earlier permissions stay in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from session_authority.access.callers import CallerToken, digest_of, read_tokens
from session_authority.access.errors import AccessError
from session_authority.access.policy_file import Policy, read_policy
from session_authority.access.roles import Caller, Role
from session_authority.runtime.files import Reread


class Access:
    """The callers and their permissions.

    If `anyone` is set, every call counts as a call of that caller. `unknown` are the callers of
    tokens that the policy does not name. `has_one_caller` is True if all calls come from one
    caller.
    """

    def __init__(
        self,
        certificates: Mapping[str, Caller] = MappingProxyType({}),
        tokens: Iterable[tuple[CallerToken, Caller]] = (),
        anyone: Caller | None = None,
        unknown: Iterable[str] = (),
    ) -> None:
        self.anyone = anyone
        self.unknown = frozenset(unknown)
        self._certificates = dict(certificates)
        self._tokens = tuple(tokens)
        named = {caller.name for caller in self._certificates.values()}
        named |= {caller.name for _, caller in self._tokens}
        self.has_one_caller = anyone is not None or len(named) <= 1

    def by_certificate(self, names: Iterable[str]) -> set[Caller]:
        """The callers that the names in a certificate stand for. A certificate that stands for
        several callers must not be accepted.
        """
        return {self._certificates[name] for name in names if name in self._certificates}

    def by_token(self, token: str) -> Caller | None:
        """The caller to whom a bearer token belongs, or None. The token is compared with every
        stored token, each time in constant time.
        """
        digest, found = digest_of(token), None
        for kept, caller in self._tokens:
            if kept.matches(digest):
                found = caller
        return found


def everybody() -> Access:
    """The permissions in development: every client that can connect may call everything."""
    return Access(anyone=Caller.of("anonymous", Role))


def load_access(policy: Path, tokens: Path | None, *, nobodys_tokens: bool = False) -> Access:
    """Reads the permissions from a policy file and, if there is one, from a file of caller tokens.
    Raises AccessError with all faults.

    A token of a caller that the policy does not name is a fault, unless `nobodys_tokens` is True.
    Then the token is ignored, like an unknown token.
    """
    faults: list[str] = []
    found: Policy | None = None
    kept: tuple[CallerToken, ...] = ()
    try:
        found = read_policy(policy)
    except AccessError as error:
        faults += error.faults
    if tokens is not None:
        try:
            kept = read_tokens(tokens)
        except AccessError as error:
            faults += error.faults
    unknown = (
        {token.caller for token in kept} - found.callers.keys() if found is not None else set()
    )
    if not nobodys_tokens:
        faults += [f"{tokens}: {name}: is no caller of {policy}" for name in sorted(unknown)]
    if faults or found is None:
        raise AccessError(*faults)
    owned = [
        (token, found.callers[token.caller]) for token in kept if token.caller in found.callers
    ]
    return Access(found.certificates, owned, unknown=unknown)


class AccessSource(Reread[Access]):
    """The permissions from files that may change. They are read again after a change. If a changed
    file is broken, the earlier permissions stay in force. Raises AccessError.

    Tokens of callers that the policy does not name are ignored.
    """

    def __init__(self, policy: Path, tokens: Path | None) -> None:
        super().__init__(
            [policy, tokens], lambda: load_access(policy, tokens, nobodys_tokens=True), AccessError
        )
