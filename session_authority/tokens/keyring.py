"""Manages the keys of a folder or file: which key signs, which keys verify and until when, and how
this changes.

A key's state is never stored. It follows from the times in the key files. So a promotion writes one
file, and a crash can leave neither two signing keys nor none. This module reads no clock, and
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

# Unknown key IDs cause at most one check of the files in this interval. So invented key IDs can't
# cause many checks.
SEEK_INTERVAL = timedelta(milliseconds=100)

_SHORTEST_TIME = timedelta(microseconds=1)


class Keyring:
    """A fixed set of keys.

    The key that was promoted last signs. A key that was promoted earlier was demoted at the moment
    when the next key was promoted. Revoked keys neither sign nor demote other keys. If the signing
    key is revoked, the key that was promoted before this key signs again. Raises KeyringError if
    two keys have the same ID.
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
        """The key that signs. Raises KeyringError if no key signs."""
        if self._signing is None:
            raise KeyringError("there is no signing key: promote one")
        return self._signing

    def __contains__(self, kid: str) -> bool:
        """Returns True if there is a key with this ID, in any state."""
        return kid in self._by_kid

    def key(self, kid: str) -> SigningKey:
        """Returns the key with this ID. Raises KeyringError if there is no such key."""
        key = self._by_kid.get(kid)
        if key is None:
            raise KeyringError(f"there is no key {kid!r}")
        return key

    def state(self, kid: str) -> KeyState:
        """Returns the state of the key with this ID. Raises KeyringError if the key is unknown."""
        key = self.key(kid)
        if key.revoked_at is not None:
            return KeyState.REVOKED
        if key.promoted_at is None:
            return KeyState.PUBLISHED
        return KeyState.SIGNING if key is self._signing else KeyState.VERIFYING

    def demoted(self, kid: str) -> datetime | None:
        """Returns the time at which the key was demoted. Returns None if the key signs, never
        signed, or is revoked. Raises KeyringError if there is no such key.
        """
        return self._demoted.get(self.key(kid).kid)

    def verifier(self, kid: str, now: datetime, lifetime: timedelta) -> SigningKey | None:
        """Returns the key with this ID if the key may verify. Returns None if there is no such key,
        if the key is revoked, or if the key was demoted `lifetime` ago or longer.

        `lifetime` is how long a token may be presented after it was signed, also for renewal.
        Because clocks differ, a key may have been promoted later than `now`. Such a key verifies
        like any other key.
        """
        key = self._by_kid.get(kid)
        if key is None or key.revoked_at is not None:
            return None
        demoted = self._demoted.get(kid)
        return key if demoted is None or now - demoted < lifetime else None

    def revoked(self) -> set[str]:
        """Returns the IDs of the keys that were revoked."""
        return {key.kid for key in self.keys if key.revoked_at is not None}

    def public_jwks(self) -> list[dict[str, str]]:
        """Returns the public part of every key that is not revoked, with the oldest key first. Keys
        without a public part are left out.
        """
        jwks = (key.public_jwk() for key in self.keys if key.revoked_at is None)
        return [jwk for jwk in jwks if jwk is not None]


class KeySource(Reread[Keyring]):
    """The present keyring of a path. `refresh` and `seek` read the files again if the files have
    changed. Raises KeyringError if the keys are broken at the start.

    The first check that sees a change applies the change. A second check is not needed, because
    each key file is written completely or not at all.
    """

    def __init__(self, path: Path, check: Callable[[Keyring], None] = lambda _: None) -> None:
        """Reads the keys. Raises KeyringError. `check` may also raise KeyringError. In this case
        the keys count as broken.
        """
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
        """Reads the keys again if their files changed and no known key has this ID. Another process
        may sign with a key that was added after the last read. The files are checked at most once
        per SEEK_INTERVAL.

        Broken files change nothing. This method does not read them again until they change, and
        reports no error. `refresh` reports the error.
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
    """Returns the keyring of a folder of key files, or of one file with all keys. Raises
    KeyringError with all faults.
    """
    keys = read_keys(path)
    if not keys:
        # An unmounted folder looks like this. Accepting an empty keyring would void every token.
        raise KeyringError(f"{path}: holds no key")
    return Keyring(keys)


def add_key(directory: Path, key: SigningKey) -> None:
    """Writes a new key. Creates the folder if it does not exist. Raises KeyringError if there is a
    key with this ID already, if the path is a single file, or if the key can't be written.
    """
    refuse_single_file(directory)
    add_file(directory, key)


def promote(directory: Path, kid: str, now: datetime) -> None:
    """Makes a published or verifying key the signing key. This demotes the present signing key.
    Raises KeyringError if the key is unknown, signs already, or is revoked.
    """
    ring = _ring_of(directory)
    key, state = ring.key(kid), ring.state(kid)
    if state is KeyState.SIGNING:
        raise KeyringError(f"the key {kid!r} is signing already")
    if state is KeyState.REVOKED:
        raise KeyringError(f"the key {kid!r} is revoked: what it signed can't be trusted")
    # The order of the promotion times decides which key signs. So a new time must be the latest
    # one, even if the clock was set back.
    earlier = [
        other.promoted_at + _SHORTEST_TIME for other in ring.keys if other.promoted_at is not None
    ]
    write_file(directory, dataclasses.replace(key, promoted_at=max([now, *earlier])))


def revoke(directory: Path, kid: str, now: datetime, replace: bool = False) -> None:
    """Voids every token that a key signed. This takes effect at once. See `revoke_keys`.

    Args:
        directory: The folder of the keys.
        kid: The ID of the key.
        now: The moment that counts as the revocation.
        replace: Promotes another key if the key is the signing key.
    """
    revoke_keys(directory, [kid], now, replace)


def revoke_keys(directory: Path, kids: Sequence[str], now: datetime, replace: bool = False) -> None:
    """Voids every token that these keys signed. This takes effect at once.

    The signing key is revoked only if `replace` is True, so that there is always a signing key.
    Another key is promoted first. It is the oldest published key, because other services are most
    likely to know the oldest key. If there is no published key, a fresh key of the same algorithm
    is made. If the process crashes during this call, one key still signs. A second call with the
    same arguments does the rest.

    Args:
        directory: The folder of the keys.
        kids: The IDs of the keys to revoke.
        now: The moment that counts as the revocation.
        replace: Promotes another key if the signing key is revoked.

    Raises KeyringError if one of the keys is unknown, if all these keys were revoked before, or if
    one of the keys signs and `replace` is False.
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
    """Voids every token that was signed before a moment. Revokes the keys that may have signed
    before the moment. If the signing key is one of these keys, a fresh key signs from now on.
    Returns the IDs of the revoked keys. The call may be repeated, and returns no IDs if nothing is
    left to void. The moment must not be in the future.

    The fresh key has the same algorithm as the previous signing key. A published key is not used,
    because it may be older than the moment. The fresh key has certainly signed nothing before the
    moment.
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
    """Removes a key that is no longer needed. Such a key never signed, or was demoted or revoked
    `lifetime` ago or longer.

    A revoked key stays as long as a demoted key, though its tokens are void. If it were removed
    earlier, watchers could miss its revocation. A host with an older copy of the folder would not
    learn of the revocation.

    Args:
        directory: The folder of the keys.
        kid: The ID of the key.
        now: The present time.
        lifetime: How long a token may be presented after it was signed.
        force: Removes the key before that time, too, which voids its tokens.

    Raises KeyringError if the key is the signing key, is unknown, or may not be removed yet.
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
