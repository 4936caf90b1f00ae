"""Holds the keys that sign the assertions of a gateway, and reads the key files again when they
change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from session_authority.gateway.assertions import Assertions, CannotSign
from session_authority.gateway.configuration import AssertionsTable
from session_authority.tokens import AssertionSigner, KeyringError

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0


class _Signer(AssertionSigner):
    """Signs assertions for the package `gateway`. Raises CannotSign instead of KeyringError,
    because that package does not import the package `tokens`.
    """

    def sign(self, claims: Mapping[str, object]) -> str:
        """Returns the text of a token with these claims. Raises CannotSign if no key can sign."""
        try:
            return super().sign(claims)
        except KeyringError as error:
            raise CannotSign(str(error)) from None


class AssertionKeys:
    """Makes assertions, and reads the key files again when they change. The constructor raises
    KeyringError if the files are broken, if no key signs, or if the key that signs has no public
    part.
    """

    def __init__(self, table: AssertionsTable) -> None:
        self._signer = _Signer(table.keys)
        self._fault = ""
        self.assertions = Assertions(self._signer, table.issuer)
        self.jwks = self._signer.jwks

    async def keep_up(self) -> None:
        """Checks every second whether the key files have changed, until the task is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Reads the keys again if their files have changed. Broken files are logged once for each
        fault, and the keys that were read before stay in use. If the changed files have no key that
        signs, an error is logged, and the earlier keys are no longer used. While no key signs,
        requests that need an assertion are denied.
        """
        try:
            signing = self._signer.refresh()
            if signing is not None:
                _log.info("assertion_keys_changed", signing=signing)
            self._fault = ""
        except (KeyringError, OSError) as error:
            fault = str(error) if isinstance(error, KeyringError) else str(error.strerror)
            if fault != self._fault:
                _log.error("assertion_keys_not_changed", reason=fault)
            self._fault = fault
