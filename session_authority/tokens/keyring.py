"""The keys of a folder or file: which one signs, which ones verify and until when, and how that
changes.

Owns the life of keys. A key's state is never stored: it follows from the times in the key files, so
that a promotion writes one file, and no crash leaves two signing keys or none. Asks no clock, and
starts no thread to watch the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from session_authority.runtime.files import Reread
from session_authority.tokens.keyfiles import (
    add_file,
    files_of,
    fingerprint,
    read_keys,
    refuse_single_file,
    remove_file,
    write_file,
)
from session_authority.tokens.keys import (
    Algorithm,
    KeyringError,
    KeyState,
    SigningKey,
    format_time,
    generate,
)

# How often names that no key has may make a source look at its files: made-up names cost no more.
SEEK_INTERVAL = timedelta(milliseconds=100)

_SHORTEST_TIME = timedelta(microseconds=1)


class Keyring:
    """A fixed set of keys.

    The key that was promoted last signs; one that was promoted earlier was demoted at the moment
    when the next one was promoted. Revoked keys neither sign nor demote: if the signing key is
    revoked, the one before it signs again.
    """

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self.keys = tuple(sorted(keys, key=lambda key: (key.created_at, key.kid)))
        self._by_kid = {key.kid: key for key in self.keys}
        if len(self._by_kid) != len(self.keys):
            raise KeyringError("two keys have the same kid")
        signers = sorted(
            (key.promoted_at, key.kid)
            for key in self.keys
            if key.promoted_at and not key.revoked_at
        )
        self._signing = self._by_kid[signers[-1][1]] if signers else None
        self._demoted = {kid: demoted for (_, kid), (demoted, _) in pairwise(signers)}

    def __repr__(self) -> str:
        return (
            f"Keyring({', '.join(f'{key.kid}: {self.state(key.kid).value}' for key in self.keys)})"
        )

    @property
    def signing(self) -> SigningKey:
        """The key that signs; raises KeyringError if none does."""
        if self._signing is None:
            raise KeyringError("there is no signing key: promote one")
        return self._signing

    def __contains__(self, kid: str) -> bool:
        """There is a key of this name, whatever its state."""
        return kid in self._by_kid

    def key(self, kid: str) -> SigningKey:
        """The key of this name; raises KeyringError if there is none."""
        key = self._by_kid.get(kid)
        if key is None:
            raise KeyringError(f"there is no key {kid!r}")
        return key

    def state(self, kid: str) -> KeyState:
        """Where the key is in its life; raises KeyringError if there is none of this name."""
        key = self.key(kid)
        if key.revoked_at is not None:
            return KeyState.REVOKED
        if key.promoted_at is None:
            return KeyState.PUBLISHED
        return KeyState.SIGNING if key is self._signing else KeyState.VERIFYING

    def demoted(self, kid: str) -> datetime | None:
        """When the key stopped signing, or None if it signs, or never did; raises KeyringError if
        there is none.
        """
        return self._demoted.get(self.key(kid).kid)

    def verifier(self, kid: str, now: datetime, lifetime: timedelta) -> SigningKey | None:
        """The key, if it may verify: it is not revoked, and was not demoted `lifetime` ago or
        longer.

        `lifetime` is how long a token that was just signed may be presented at all, for renewal
        included. A key that was promoted ahead of `now`, by a clock that differs, verifies like any
        other.
        """
        key = self._by_kid.get(kid)
        if key is None or key.revoked_at is not None:
            return None
        demoted = self._demoted.get(kid)
        return key if demoted is None or now - demoted < lifetime else None

    def revoked(self) -> set[str]:
        """The names of the keys that were revoked."""
        return {key.kid for key in self.keys if key.revoked_at is not None}

    def public_jwks(self) -> list[dict[str, str]]:
        """The public part of every key that is not revoked, oldest first."""
        jwks = (key.public_jwk() for key in self.keys if key.revoked_at is None)
        return [jwk for jwk in jwks if jwk is not None]


class KeySource(Reread[Keyring]):
    """The keyring of a path, as it changes. Raises KeyringError if it is broken at the start.

    A change counts at once, as each key file is written as a whole.
    """

    def __init__(self, path: Path, check: Callable[[Keyring], None] = lambda _: None) -> None:
        """Raises KeyringError, also what `check` raises of keys: such keys count as broken ones."""
        self.path = path
        self._sought: datetime | None = None

        def load() -> Keyring:
            ring = load_keyring(path)
            check(ring)
            return ring

        super().__init__([path], load, KeyringError, at_once=True)

    def _look(self) -> object:
        return fingerprint(self.path)

    def _files(self) -> Iterable[Path]:
        return files_of(self.path)

    def seek(self, kid: str, now: datetime) -> None:
        """Reads the keys again, if they changed, for a name that no key has: another process may
        sign with a key that was added since this one looked. One look in SEEK_INTERVAL serves all
        such names.

        Broken files change nothing, and are not read again until they change: it is for `refresh`
        to tell of them.
        """
        if kid in self.current or (
            self._sought is not None and abs(now - self._sought) < SEEK_INTERVAL
        ):
            return
        self._sought = now
        with suppress(KeyringError):
            if self._look() != self._seen:
                self.refresh()


def load_keyring(path: Path) -> Keyring:
    """The keyring of a folder of key files, or of one file with all keys; raises KeyringError with
    every fault.
    """
    keys = read_keys(path)
    if not keys:
        # A folder that was unmounted looks like this; taking it for the truth would void every
        # token.
        raise KeyringError(f"{path}: holds no key")
    return Keyring(keys)


def add_key(directory: Path, key: SigningKey) -> None:
    """Writes a new key; makes the folder if there is none."""
    refuse_single_file(directory)
    add_file(directory, key)


def promote(directory: Path, kid: str, now: datetime) -> None:
    """Makes a published or verifying key the signing key, and so demotes the one that signs."""
    ring = _ring_of(directory)
    key, state = ring.key(kid), ring.state(kid)
    if state is KeyState.SIGNING:
        raise KeyringError(f"the key {kid!r} is signing already")
    if state is KeyState.REVOKED:
        raise KeyringError(f"the key {kid!r} is revoked: what it signed can't be trusted")
    # The order of promotions says which key signs: it must survive a clock that was set back.
    earlier = [
        other.promoted_at + _SHORTEST_TIME for other in ring.keys if other.promoted_at is not None
    ]
    write_file(directory, dataclasses.replace(key, promoted_at=max([now, *earlier])))


def revoke(directory: Path, kid: str, now: datetime, replace: bool = False) -> None:
    """Voids every token that the key signed, at once. See `revoke_keys`."""
    revoke_keys(directory, [kid], now, replace)


def revoke_keys(directory: Path, kids: Sequence[str], now: datetime, replace: bool = False) -> None:
    """Voids every token that these keys signed, at once. Refused if all were revoked before.

    Refused for the signing key too, so that one always signs, unless `replace` has another one
    promoted first: of those published, the one made first, which others are most likely to know; if
    there is none, a fresh one of the same algorithm. A crash on the way leaves one key signing, and
    the same call again does what is left.
    """
    ring = _ring_of(directory)
    left = [kid for kid in dict.fromkeys(kids) if ring.state(kid) is not KeyState.REVOKED]
    if not left:
        raise KeyringError(*(f"the key {kid!r} is revoked already" for kid in dict.fromkeys(kids)))
    signs = next((kid for kid in left if ring.state(kid) is KeyState.SIGNING), None)
    if signs is not None:
        if not replace:
            raise KeyringError(
                f"the key {signs!r} is signing: promote another one first, or use --replace"
            )
        ready = (
            key
            for key in ring.keys
            if ring.state(key.kid) is KeyState.PUBLISHED and key.kid not in left
        )
        successor = next(ready, None) or _add_fresh(directory, ring.key(signs).algorithm, now)
        promote(directory, successor.kid, now)
    for kid in left:
        write_file(directory, dataclasses.replace(ring.key(kid), revoked_at=now))


def void_before(directory: Path, moment: datetime, now: datetime) -> Sequence[str]:
    """Voids every token that was signed before a moment: revokes the keys that may have signed
    then, once a fresh key signs. Returns the IDs of the revoked keys, none if there is nothing left
    to void: the same call may be repeated.

    The fresh key has the algorithm of the signing key before it. No published key becomes the next:
    a key that is younger than the moment is known to have signed nothing before.
    """
    ring = _ring_of(directory)
    old = [
        key.kid
        for key in ring.keys
        if key.promoted_at is not None and key.revoked_at is None and key.created_at < moment
    ]
    signs = next((kid for kid in old if ring.state(kid) is KeyState.SIGNING), None)
    if signs is not None:
        fresh = _add_fresh(directory, ring.key(signs).algorithm, now)
        promote(directory, fresh.kid, now)
    if old:
        revoke_keys(directory, old, now)
    return old


def _add_fresh(directory: Path, algorithm: Algorithm, now: datetime) -> SigningKey:
    key = generate(algorithm, now)
    add_key(directory, key)
    return key


def retire(
    directory: Path, kid: str, now: datetime, lifetime: timedelta, force: bool = False
) -> None:
    """Removes a key that is not needed: one that never signed, or was demoted or revoked `lifetime`
    ago.

    A revoked key stays as long as a demoted one though its tokens are void: what is not there any
    more revokes nothing on a host whose copy of the folder is older, and is told to nobody. `force`
    removes a key before that, which voids its tokens; the signing key stays in any case.
    """
    ring = _ring_of(directory)
    state, stopped = ring.state(kid), ring.key(kid).revoked_at or ring.demoted(kid)
    if state is KeyState.SIGNING:
        raise KeyringError(f"the key {kid!r} is signing: promote another one first")
    if stopped is not None and now - stopped < lifetime and not force:
        until = format_time(stopped + lifetime)
        raise KeyringError(
            f"tokens of the key {kid!r} may still be presented: it can be removed from {until} on"
        )
    remove_file(directory, kid)


def _ring_of(directory: Path) -> Keyring:
    refuse_single_file(directory)
    return load_keyring(directory)
