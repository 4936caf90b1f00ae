"""Combines the policy file and the token file into the permissions of all callers. A call that the
policy file does not allow is denied, unless its RPC is public, such as a health check.

If a changed policy file or token file is not valid, the earlier permissions stay in force.
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
    """Holds the callers and their permissions, and finds the caller of a certificate or token.

    If `anyone` is not None, every call counts as a call of this caller. `unknown` has the names of
    callers that have a token but are not in the policy file. `has_one_caller` is True if at most
    one caller can be identified.
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
        """Returns the callers to whom the names in a certificate belong. If the names belong to
        several callers, the certificate must not be accepted.
        """
        return {self._certificates[name] for name in names if name in self._certificates}

    def by_token(self, token: str) -> Caller | None:
        """Returns the caller to whom a bearer token belongs, or None if the token is unknown. The
        token's digest is compared with every stored digest, each time in constant time.
        """
        digest, found = digest_of(token), None
        for kept, caller in self._tokens:
            if kept.matches(digest):
                found = caller
        return found


def everybody() -> Access:
    """Returns the permissions of a server without an access policy, for example of the command
    `dev`: every client that can connect may call every RPC.
    """
    return Access(anyone=Caller.of("anonymous", Role))


def load_access(policy: Path, tokens: Path | None, *, nobodys_tokens: bool = False) -> Access:
    """Reads the permissions from a policy file and, if `tokens` is not None, from a token file.
    Raises AccessError with all faults of the two files.

    A token of a caller that is not in the policy file is a fault. This fault is found only if both
    files are valid. With `nobodys_tokens`, a token of an unknown caller is no fault, but is
    ignored.
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
    """The permissions in a policy file and a token file. `refresh` reads the files again if they
    have changed. The constructor and `refresh` raise AccessError if a file is not valid. After an
    error of `refresh`, the earlier permissions stay in force.

    Tokens of callers that are not in the policy file are ignored.
    """

    def __init__(self, policy: Path, tokens: Path | None) -> None:
        super().__init__(
            [policy, tokens], lambda: load_access(policy, tokens, nobodys_tokens=True), AccessError
        )
