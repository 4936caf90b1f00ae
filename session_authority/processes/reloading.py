"""Reads files again when they change, and logs each change. The files are the access policy, the
tokens of callers, keys, certificates, and the database of places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from session_authority.access import AccessError
from session_authority.geoip import GeoipError, GeoipSource
from session_authority.processes.options import ListenOptions
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.tls import CertificateError
from session_authority.tokens import KeyringError, KeySource, KeyState

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """A value that is read from files, and read again when the files change.

    `version` counts how often changed files were read. A change is used only after two checks in a
    row have seen the same files. At the first check, the writing of a file may not be finished.
    `pending` is True after a change that only one check has seen.
    """

    version: int
    pending: bool

    def refresh(self) -> bool:
        """Reads the files again if they have changed. Returns True if the files were read. Raises
        an error if the files are broken.
        """

    def is_readable(self) -> bool:
        """Returns True if the files can be read, even if their contents are broken."""


class WatchedFiles:
    """Watches the files of one kind for changes. If files are broken, the fault is logged once as
    an error, and the earlier contents stay in use.

    `readable` is called with the kind of the files (`what`) at the start, and after each check that
    could read the files. `readable` is also called if the contents are broken, because the service
    goes on with the earlier contents until an operator corrects the files. `readable` is not called
    while files can't be read, because the files may contain a revocation.
    """

    def __init__(
        self,
        what: str,
        source: Source,
        metrics: Metrics,
        readable: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._what = what
        self._source = source
        self._readable = readable
        readable(what)
        self._version = source.version
        self._fault = ""
        self._broken = metrics.files_broken.labels(what)

    def changed(self) -> bool:
        """Checks the files. Returns True if new contents are in use since the last call."""
        try:
            self._source.refresh()
        except (KeyringError, AccessError, CertificateError, GeoipError, OSError) as error:
            fault = str(error)
            if isinstance(error, OSError):
                fault = error.strerror or "can't be read"
            if fault != self._fault:
                _log.error(f"{self._what}_not_changed", reason=fault)
            self._fault = fault
            self._broken.set(1)
            if self._source.is_readable():
                self._readable(self._what)
            return False
        self._readable(self._what)
        if self._source.pending:
            return False
        self._fault = ""
        self._broken.set(0)
        if self._version == self._source.version:
            return False
        self._version = self._source.version
        _log.info(f"{self._what}_changed")
        return True


class Reloading:
    """Watches all files that a running server reads again.

    `access_changed` is called when permissions have changed. `readable` is called at the start, and
    after each check that could read the keys or the access policy.
    """

    def __init__(
        self,
        keys: KeySource,
        options: ListenOptions,
        metrics: Metrics,
        access_changed: Callable[[], None],
        readable: Callable[[str], None],
        geoip: GeoipSource | None = None,
    ) -> None:
        self._keys = keys
        self._geoip = geoip
        self._access = options.access
        self._tls = options.tls
        self._metrics = metrics
        self._access_changed = access_changed
        self._key_files = WatchedFiles("keys", keys, metrics, readable)
        self._access_files = (
            None
            if self._access is None
            else WatchedFiles("access", self._access, metrics, readable)
        )
        self._certificate_files = (
            None if self._tls is None else WatchedFiles("certificates", self._tls, metrics)
        )
        # The database of places does not decide whether a session is valid. So calls are answered
        # even while the file of this database can't be read.
        self._geoip_files = (
            None if geoip is None else WatchedFiles("geoip_database", geoip, metrics)
        )

    def tell_current(self) -> None:
        """Shows the state of the files in the metrics, and logs tokens of callers that the policy
        does not name. A server calls this method at its start.
        """
        self._tell_certificate_end()
        self._tell_keys()
        self._tell_tokens_of_nobody()
        self._tell_geoip_build()

    def looks(self) -> Sequence[Callable[[], Awaitable[None] | None]]:
        """Returns one check for each kind of files. A server repeats each check in a loop of its
        own.
        """
        return (
            self._look_at_access,
            self._look_at_keys,
            self._look_at_certificates,
            self._look_at_geoip,
        )

    async def _look_at_geoip(self) -> None:
        # The check of the database of places runs in a thread, because the file may have a hundred
        # megabytes and the disk may be slow.
        if self._geoip_files is not None and await asyncio.to_thread(self._geoip_files.changed):
            self._tell_geoip_build()

    def _look_at_access(self) -> None:
        if self._access_files is not None and self._access_files.changed():
            self._access_changed()
            self._tell_tokens_of_nobody()

    def _look_at_keys(self) -> None:
        if self._key_files.changed():
            self._tell_keys()
            try:
                self._keys.current.signing  # noqa: B018 - raises if no key signs
            except KeyringError as error:
                # A removed key must not be used any more. So changed key files are used even if
                # they have no key that signs. While no key signs, no user can sign in.
                _log.error("no_key_signs", reason=str(error))

    def _look_at_certificates(self) -> None:
        if self._certificate_files is not None and self._certificate_files.changed():
            self._tell_certificate_end()

    def _tell_keys(self) -> None:
        ring, signing = self._keys.current, None
        states = Counter(ring.state(key.kid) for key in ring.keys)
        for state in KeyState:
            self._metrics.signing_keys.labels(state.value).set(states[state])
        with suppress(KeyringError):
            signing = ring.signing
        created = 0.0 if signing is None else signing.created_at.timestamp()
        self._metrics.signing_key_created.set(created)

    def _tell_tokens_of_nobody(self) -> None:
        if self._access is not None and (unknown := self._access.current.unknown):
            _log.error("tokens_of_nobody", callers=sorted(unknown))

    def _tell_geoip_build(self) -> None:
        if self._geoip is not None:
            self._metrics.geoip_built.set(self._geoip.current.built_at_seconds)

    def _tell_certificate_end(self) -> None:
        if self._tls is not None:
            self._metrics.certificate_end.set(self._tls.current.ends_at.timestamp())
