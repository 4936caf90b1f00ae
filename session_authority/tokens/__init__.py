"""Manages the signing keys, and makes and verifies the tokens that these keys sign. This package
decides which key signs, which keys verify, and which JWT form access tokens and assertions have. No
other package of the service uses JWT.

This package does not decide if the session of a token is still valid.
"""

from session_authority.tokens.assertions import AssertionSigner
from session_authority.tokens.codec import MAX_TOKEN_BYTES, Tokens, TokenTooLarge
from session_authority.tokens.keyfiles import exposed
from session_authority.tokens.keyring import (
    Keyring,
    KeySource,
    add_key,
    load_keyring,
    promote,
    retire,
    revoke,
    revoke_keys,
    void_before,
)
from session_authority.tokens.keys import Algorithm, KeyringError, KeyState, SigningKey, generate

__all__ = [
    "MAX_TOKEN_BYTES",
    "Algorithm",
    "AssertionSigner",
    "KeySource",
    "KeyState",
    "Keyring",
    "KeyringError",
    "SigningKey",
    "TokenTooLarge",
    "Tokens",
    "add_key",
    "exposed",
    "generate",
    "load_keyring",
    "promote",
    "retire",
    "revoke",
    "revoke_keys",
    "void_before",
]
