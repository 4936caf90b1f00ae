"""Implements `session-authority callers`, which manages the bearer tokens of callers that have no
certificate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from session_authority.access import (
    CallerToken,
    Policy,
    add_token,
    new_token,
    read_policy,
    read_tokens,
    remove_tokens,
)
from session_authority.cli.audited import audit, audited
from session_authority.cli.terminal import (
    WRONG_USAGE,
    Commands,
    JsonOption,
    err,
    errors_in_one_line,
    existing_file,
    fail,
    out,
    show,
    show_json,
    when,
)
from session_authority.runtime.clock import now
from session_authority.runtime.settings import load_settings

app = typer.Typer(
    cls=Commands,
    help=(
        "Manage the bearer tokens of callers that have no certificate.\n\nThe file that"
        " SESSION_AUTHORITY_CALLER_TOKENS names has only the SHA-256 of each token. The access"
        " policy says what each caller may do. A caller may have several tokens at the same time."
        " To replace a token, [bold]add[/bold] a second token, give it to the caller, then"
        " [bold]remove[/bold] the first. Running servers see changes within a second."
    ),
    no_args_is_help=True,
)


def _tokens_option(callback: Callable[..., Path | None] | None = None) -> Any:
    return typer.Option(
        "--tokens",
        metavar="FILE",
        help="The file of tokens. Default: SESSION_AUTHORITY_CALLER_TOKENS.",
        show_default=False,
        callback=callback,
    )


FileOption = Annotated[Path | None, _tokens_option()]
KnownFileOption = Annotated[Path | None, _tokens_option(existing_file)]
NameArgument = Annotated[
    str, typer.Argument(metavar="CALLER", help="The caller's name in the access policy.")
]


@app.command("add")
@errors_in_one_line()
@audited("callers add", "name")
def callers_add(name: NameArgument, tokens: FileOption = None) -> None:
    """Make a token for a caller, and print the token. The token is shown only once, and is stored
    nowhere.
    """
    file, policy = _file(tokens), load_settings().access_policy
    if policy is not None and name not in read_policy(policy).callers:
        fail(f"{name!r} is no caller of {policy}: name it there first")
    token = new_token()
    added = add_token(file, name, token, now())
    audit(token_id=added.token_id)
    out.print(token, markup=False, soft_wrap=True)
    err.print(
        f"{name} has the token {added.token_id} from now on. It is not shown again.",
        markup=False,
    )


@app.command("list")
@errors_in_one_line()
def callers_list(tokens: FileOption = None, as_json: JsonOption = False) -> None:
    """List the callers, with the RPCs, the certificates and the tokens of each caller."""
    settings = load_settings()
    file, policy = tokens or settings.caller_tokens, settings.access_policy
    if file is None and policy is None:
        fail(
            "set SESSION_AUTHORITY_ACCESS_POLICY or SESSION_AUTHORITY_CALLER_TOKENS, or give"
            " --tokens",
            WRONG_USAGE,
        )
    there = file is not None and os.path.exists(file)
    if policy is None and not there:  # don't show the name: it may be a token
        fail("--tokens: there is no such file", WRONG_USAGE)
    found = read_policy(policy) if policy is not None else None
    kept = read_tokens(file) if file is not None and there else ()
    names = dict.fromkeys([*(found.callers if found else ()), *(token.caller for token in kept)])
    if as_json:
        for name in names:
            show_json(_row(name, found, kept))
        return
    table = Table("caller", "may call", "certificates", "tokens", box=None, pad_edge=False)
    for name in names:
        table.add_row(
            name,
            "\n".join(_rpcs(name, found)) or "nothing: the policy does not name it",
            "\n".join(_certificates(name, found)) or "-",
            "\n".join(f"{t.token_id} since {when(t.added_at)}" for t in kept if t.caller == name)
            or "-",
        )
    show(table)


def _rpcs(name: str, policy: Policy | None) -> list[str]:
    caller = policy.callers.get(name) if policy else None
    return caller.rpcs() if caller else []


def _certificates(name: str, policy: Policy | None) -> list[str]:
    certificates = policy.certificates.items() if policy else ()
    return [text for text, caller in certificates if caller.name == name]


def _row(name: str, policy: Policy | None, kept: Sequence[CallerToken]) -> dict[str, object]:
    """Returns what `--json` prints about a caller."""
    return {
        "caller": name,
        "may_call": _rpcs(name, policy),
        "certificates": _certificates(name, policy),
        "tokens": [
            {"token_id": token.token_id, "added_at": token.added_at}
            for token in kept
            if token.caller == name
        ],
    }


@app.command("remove")
@errors_in_one_line()
@audited("callers remove", "name", "token")
def callers_remove(
    name: NameArgument,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN_ID",
            help="Remove only this token; see `callers list`.",
            show_default="all",
        ),
    ] = None,
    tokens: KnownFileOption = None,
) -> None:
    """Remove all tokens of a caller, or one token. Within a second, the service refuses calls with
    a removed token, and ends the watches that use a removed token.
    """
    for gone in remove_tokens(_file(tokens), name, token):
        out.print(f"{name} has the token {gone.token_id} no longer.", markup=False)


def _file(given: Path | None) -> Path:
    file = given or load_settings().caller_tokens
    if file is None:
        fail(
            "name the file of tokens with --tokens or SESSION_AUTHORITY_CALLER_TOKENS", WRONG_USAGE
        )
    return file
