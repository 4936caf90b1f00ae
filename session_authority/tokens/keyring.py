"""Manages the keys in a folder or file. This module decides which key signs, which keys verify, and
how long a key verifies. The functions of this module add, promote, revoke and remove keys.

The state of a key is not stored, because the state follows from the times in the key files. A
promotion writes only one file, so a crash during a promotion leaves either the old or the new
signing key. This module reads no clock, and starts no thread that watches the files.
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

# A token with an unknown key ID causes a check of the key files, but at most one check in this
# interval. So an attacker who invents key IDs can't cause many checks.
SEEK_INTERVAL = timedelta(milliseconds=100)

_SHORTEST_TIME = timedelta(microseconds=1)


class Keyring:
    """A set of keys that does not change, with the state of each key.

    The key that was promoted last signs. A key that was promoted earlier was demoted when the next
    key was promoted. A revoked key does not sign and does not demote other keys. If the signing key
    is revoked, the key that was promoted before the revoked key signs again. The constructor raises
    KeyringError if two keys have the same ID.
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
        """Returns the key with this ID. Raises KeyringError if there is no key with this ID."""
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
        """Returns the time at which the key with this ID was demoted. Returns None if the key
        signs, never signed, or is revoked. Raises KeyringError if there is no key with this ID.
        """
        return self._demoted.get(self.key(kid).kid)

    def verifier(self, kid: str, now: datetime, lifetime: timedelta) -> SigningKey | None:
        """Returns the key with this ID if the key may verify. Returns None if there is no key with
        this ID, if the key is revoked, or if the key was demoted at least `lifetime` ago.

        `lifetime` is how long a token may be presented after it was signed. `lifetime` includes the
        time in which a token can only be renewed. A key also verifies if its promotion time is
        later than `now`, because the clocks of two hosts may differ.
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
    """The present keyring of a folder or file of keys. `refresh` and `seek` check the key files,
    and read the files again if they have changed.

    The first check that finds a change applies the change. A second check is not needed, because
    each key file is written completely or not at all.
    """

    def __init__(self, path: Path, check: Callable[[Keyring], None] = lambda _: None) -> None:
        """Reads the keys. `check` is called with each keyring that is read, and raises KeyringError
        to reject the keyring. Raises KeyringError if the keys are not valid or are rejected.
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
        """Reads the keys again if no known key has this ID and the key files have changed. A token
        may have the ID of an unknown key, because another process may sign with a key that was
        added after the last read. The key files are checked at most once per SEEK_INTERVAL.

        If the changed files are not valid, the present keys stay in use, and this method raises no
        error. This method does not read invalid files again before the files change. `refresh`
        raises the error of invalid files.
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
    KeyringError with all faults if the files can't be read, are not valid, or have no key.
    """
    keys = read_keys(path)
    if not keys:
        # A folder looks empty while its volume is not mounted. With an empty keyring, every token
        # would be void.
        raise KeyringError(f"{path}: holds no key")
    return Keyring(keys)


def add_key(directory: Path, key: SigningKey) -> None:
    """Writes the file of a new key. Creates the folder if it does not exist. Raises KeyringError if
    there is already a key with the ID of this key, if the path is a single file, or if the key
    can't be written.
    """
    refuse_single_file(directory)
    add_file(directory, key)


def promote(directory: Path, kid: str, now: datetime) -> None:
    """Makes a published or verifying key the signing key. The present signing key is demoted.
    Raises KeyringError if the key is unknown, signs already, or is revoked, or if the path is a
    single file.
    """
    ring = _ring_of(directory)
    key, state = ring.key(kid), ring.state(kid)
    if state is KeyState.SIGNING:
        raise KeyringError(f"the key {kid!r} is signing already")
    if state is KeyState.REVOKED:
        raise KeyringError(f"the key {kid!r} is revoked: what it signed can't be trusted")
    # The key with the latest promotion time signs. So the new promotion time must be later than all
    # earlier promotion times, even if the clock was set back.
    earlier = [
        other.promoted_at + _SHORTEST_TIME for other in ring.keys if other.promoted_at is not None
    ]
    write_file(directory, dataclasses.replace(key, promoted_at=max([now, *earlier])))


def revoke(directory: Path, kid: str, now: datetime, replace: bool = False) -> None:
    """Voids every token that a key signed, even tokens that have not expired. See `revoke_keys`.

    Args:
        directory: The folder of the keys.
        kid: The ID of the key.
        now: The moment that counts as the revocation.
        replace: True to promote another key first if the key is the signing key.
    """
    revoke_keys(directory, [kid], now, replace)


def revoke_keys(directory: Path, kids: Sequence[str], now: datetime, replace: bool = False) -> None:
    """Voids every token that these keys signed, even tokens that have not expired. A running
    service applies the revocation at its next check of the key files.

    The signing key is revoked only if `replace` is True. If the signing key is revoked, another key
    is promoted first, so that there is always a signing key. The oldest published key is promoted,
    because other services are most likely to know the oldest key. If there is no published key, a
    new key with the algorithm of the old signing key is made. If the process crashes during this
    call, one key still signs, and a second call with the same arguments completes the revocation.

    Args:
        directory: The folder of the keys.
        kids: The IDs of the keys to revoke.
        now: The moment that counts as the revocation.
        replace: True to promote another key first if one of the keys is the signing key.

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
    """Voids every token that was signed before `moment`, which must not be in the future. Revokes
    the keys that may have signed a token before `moment`. If the signing key is one of these keys,
    a new key is made and promoted first. Returns the IDs of the revoked keys. The call may be
    repeated, and returns no IDs if no key is left to revoke.

    The new key has the algorithm of the old signing key. No published key is promoted in place of
    the old signing key, because a published key may be older than `moment`. Only a new key has
    certainly signed nothing before `moment`.
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
    """Removes the file of a key that is no longer needed. A key is no longer needed if it never
    signed, or if it was demoted or revoked at least `lifetime` ago.

    The file of a revoked key must stay for `lifetime`, too, though the tokens of the key are void.
    If the file were removed before `lifetime` has passed, a process could miss the revocation. For
    example, a host with an older version of the folder would not learn of the revocation.

    Args:
        directory: The folder of the keys.
        kid: The ID of the key.
        now: The present time.
        lifetime: How long a token may be presented after it was signed.
        force: True to remove the key even if it was demoted or revoked less than `lifetime` ago.
            The tokens of the key become void.

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
