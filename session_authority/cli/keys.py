"""Implements `session-authority keys`, which manages the keys that sign tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from session_authority.cli.audited import audit, audited
from session_authority.cli.terminal import (
    WRONG_USAGE,
    Commands,
    JsonOption,
    err,
    errors_in_one_line,
    fail,
    out,
    show,
    show_json,
    when,
)
from session_authority.domain.session_limits import LEEWAY
from session_authority.runtime.clock import now
from session_authority.runtime.settings import load_settings
from session_authority.tokens import (
    Algorithm,
    Keyring,
    KeyState,
    SigningKey,
    add_key,
    exposed,
    generate,
    load_keyring,
    promote,
    retire,
    revoke_keys,
)

# When a key has this age, services that verify tokens themselves know the key, because they call
# GetSigningKeys regularly.
_REREAD_TIME = timedelta(minutes=10)
_STATES_HELP = f"Only in this state ({', '.join(s.value for s in KeyState)}); may be repeated."

app = typer.Typer(
    cls=Commands,
    help=(
        "Manage the keys that sign tokens: a folder with one file for each key.\n\nA new key is"
        " [bold]published[/bold] first, so that everyone can learn it. [bold]promote[/bold] makes"
        " it the signing key. The previous key goes on verifying until its last token has ended."
        " Then [bold]retire[/bold] removes that key. If a key leaked, [bold]revoke[/bold] voids all"
        " tokens that it signed. Running servers see changes within a second."
    ),
    no_args_is_help=True,
)

KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="The key folder. Default: SESSION_AUTHORITY_KEYS.",
        show_default=False,
    ),
]


@app.command("generate")
@errors_in_one_line()
@audited("keys generate", "algorithm", "promote_now")
def keys_generate(
    directory: KeysOption = None,
    algorithm: Annotated[
        Algorithm, typer.Option("--algorithm", help="The algorithm of the key.")
    ] = Algorithm.EDDSA,
    promote_now: Annotated[
        bool, typer.Option("--promote", help="Let the new key sign at once.")
    ] = False,
) -> None:
    """Make a key. The key is published, and signs after it was promoted."""
    folder = key_folder(directory)
    key = generate(algorithm, now())
    add_key(folder, key)
    audit(key_ids=[key.kid])
    if promote_now:
        _promote(folder, key.kid)
    out.print(key.kid, markup=False)


@app.command("list")
@errors_in_one_line()
def keys_list(
    directory: KeysOption = None,
    states: Annotated[
        list[KeyState] | None,
        typer.Option("--state", metavar="STATE", help=_STATES_HELP, show_default=False),
    ] = None,
    ids_only: Annotated[
        bool, typer.Option("--ids", help="Print the key IDs alone, one a line.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the keys and their states."""
    folder = key_folder(directory)
    ring = load_keyring(folder)
    keys = [
        key
        for key in sorted(ring.keys, key=lambda k: k.created_at)
        if not states or ring.state(key.kid) in states
    ]
    for key in keys:
        if as_json:
            show_json(_row(ring, key))
        elif ids_only:
            out.print(key.kid, markup=False, soft_wrap=True)
    if as_json or ids_only:
        return
    titles = ("key ID", "algorithm", "state", "created", "promoted", "demoted", "revoked")
    table = Table(*titles, box=None, pad_edge=False)
    for key in keys:
        table.add_row(
            key.kid,
            key.algorithm.value,
            ring.state(key.kid).value,
            when(key.created_at),
            when(key.promoted_at),
            when(ring.demoted(key.kid)),
            when(key.revoked_at),
        )
    show(table, whole_lines=True)
    if _signing(ring) is None:
        _print_who_signs(ring)
    for fault in exposed(folder):
        err.print(fault, markup=False, soft_wrap=True)


@app.command("promote")
@errors_in_one_line()
@audited("keys promote", "kid")
def keys_promote(
    kid: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key; see `keys list`.")],
    directory: KeysOption = None,
) -> None:
    """Let a key sign from now on. The tokens that the previous key signed stay good."""
    _promote(key_folder(directory), kid)
    out.print(f"{kid} signs.", markup=False)


@app.command("revoke")
@errors_in_one_line()
@audited("keys revoke", "kids", "replace")
def keys_revoke(
    kids: Annotated[list[str], typer.Argument(metavar="KEY_ID", help="The keys; see `keys list`.")],
    directory: KeysOption = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="If the signing key is among them, let a published key or a new key sign.",
        ),
    ] = False,
) -> None:
    """Void all tokens that a leaked key signed, at once and for good.

    Users with tokens of the leaked key must sign in again. If the signing key is revoked, another
    key must sign: [bold]--replace[/bold] promotes a published key, or makes a new key.
    """
    folder = key_folder(directory)
    revoke_keys(folder, kids, now(), replace)
    ring = load_keyring(folder)
    for kid in dict.fromkeys(kids):
        key = ring.key(kid)
        void = (
            "It has signed nothing."
            if key.promoted_at is None
            else "All that it ever signed is void."
        )
        out.print(
            f"{kid} is revoked since {when(key.revoked_at)}. {void}", markup=False, soft_wrap=True
        )
    out.print(
        "Running servers refuse such tokens within a second, for renewal too. Users with such"
        " tokens must sign in again.\nServices that verify tokens themselves must read"
        " GetSigningKeys again. Watches get the event SIGNING_KEY_REVOKED.",
        soft_wrap=True,
    )
    _print_who_signs(ring)


@app.command("retire")
@errors_in_one_line()
@audited("keys retire", "kid", "force")
def keys_retire(
    kid: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key; see `keys list`.")],
    directory: KeysOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Remove the key even if its tokens are still in use.")
    ] = False,
) -> None:
    """Remove a key that is no longer needed.

    The command refuses to remove a key while a session may still have a token that the key signed.
    Without the key, the user of that session must sign in again.
    """
    limits = load_settings().session_limits()
    retire(
        key_folder(directory),
        kid,
        now(),
        limits.token_ttl + limits.idle_timeout + LEEWAY,
        force,
    )
    out.print(f"{kid} is gone.", markup=False)


def _row(ring: Keyring, key: SigningKey) -> dict[str, object]:
    """Returns what `--json` prints about a key."""
    return {
        "key_id": key.kid,
        "algorithm": key.algorithm.value,
        "state": ring.state(key.kid).value,
        "created_at": key.created_at,
        "promoted_at": key.promoted_at,
        "demoted_at": ring.demoted(key.kid),
        "revoked_at": key.revoked_at,
    }


def _signing(ring: Keyring) -> SigningKey | None:
    return next((key for key in ring.keys if ring.state(key.kid) is KeyState.SIGNING), None)


def _print_who_signs(ring: Keyring) -> None:
    key = _signing(ring)
    if key is None:
        err.print("No key signs: promote one.")
    else:
        out.print(f"{key.kid} signs.", markup=False)


def _promote(folder: Path, kid: str) -> None:
    before = load_keyring(folder)
    promote(folder, kid, now())
    age = now() - before.key(kid).created_at
    if age < _REREAD_TIME and _signing(before) is not None:
        err.print(
            f"{kid} was made {age.total_seconds():.0f} s ago. Servers on this folder know the key."
            " Services that verify tokens themselves, and servers with a copy of the folder, may"
            " not know the key yet. They then refuse the tokens that it signs.",
            markup=False,
            soft_wrap=True,
        )


def key_folder(given: Path | None) -> Path:
    """Returns the key folder that the option `--dir` names, or else the folder that the settings
    name. If neither names a folder, the command fails.
    """
    folder = given or load_settings().keys
    if folder is None:
        fail("name the key folder with --dir or SESSION_AUTHORITY_KEYS", WRONG_USAGE)
    return folder
