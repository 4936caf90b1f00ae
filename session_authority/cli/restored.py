"""Implements `session-authority restored`, which voids all tokens that were issued before Redis was
restored from a backup.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from session_authority.cli.audited import audit, audited
from session_authority.cli.keys import KeysOption, key_folder
from session_authority.cli.terminal import WRONG_USAGE, errors_in_one_line, fail, out, when
from session_authority.runtime.clock import now
from session_authority.tokens import load_keyring, void_before


@errors_in_one_line()
@audited("restored", "at")
def restored(
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="When Redis was restored, such as 2026-11-24T09:30:00Z. Default: now.",
            show_default=False,
        ),
    ] = None,
    directory: KeysOption = None,
) -> None:
    """Void every token that was issued before Redis was restored from a backup.

    The backup lacks the revocations that came after it, so revoked sessions are live again in the
    restored Redis. Nothing shows which sessions were revoked, so all users must sign in again. The
    command revokes the keys that were made before [bold]--at[/bold] and have signed. So tokens that
    these keys signed later are void, too. Run the command before the servers start on the restored
    Redis. You may run the command again with the same [bold]--at[/bold].
    """
    present = now()
    moment = present if at is None else _moment(at)
    if moment > present:
        fail("--at: is in the future", WRONG_USAGE)
    folder = key_folder(directory)
    void = void_before(folder, moment, present)
    audit(at=moment.isoformat(), key_ids=list(void))
    for kid in void:
        out.print(f"{kid} is revoked.", markup=False, soft_wrap=True)
    told = "All tokens that were" if void else "No token is left that was"
    text = f"{told} issued before {when(moment)}" + (" are void." if void else ".")
    out.print(text, markup=False, soft_wrap=True)
    out.print(f"{load_keyring(folder).signing.kid} signs.", markup=False, soft_wrap=True)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        fail("--at: must be a time with its zone, like 2026-11-24T09:30:00Z", WRONG_USAGE)
    return moment.astimezone(UTC)
