"""Implements `session-authority devices`, which shows where a user is signed in, and signs the user
out. These commands are for a support desk.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from session_authority.cli.connection_options import calls_server
from session_authority.cli.terminal import (
    FAILED,
    WRONG_USAGE,
    Commands,
    JsonOption,
    err,
    errors_in_one_line,
    fail,
    out,
    show,
    show_json,
)
from session_authority.console.connection import Target
from session_authority.runtime.text import printable

app = typer.Typer(
    cls=Commands,
    help=(
        "See where a user is signed in, and sign the user out there.\n\nA caller needs the role"
        " [bold]manager[/bold] in the access policy, or operator."
    ),
    no_args_is_help=True,
)

UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="The user's ID, as the login service names it.")
]


@app.command("list")
@errors_in_one_line()
@calls_server()
def devices_list(
    target: Target,
    user: UserArgument,
    signed_out: Annotated[
        bool, typer.Option("--signed-out", help="Also devices where the user is signed out.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List a user's devices, the newest activity first."""
    from session_authority.console.support import CallFailed, devices_of

    try:
        devices = list(devices_of(target, user, signed_out=signed_out))
    except CallFailed as error:
        fail(str(error))
    if as_json:
        for device in devices:
            show_json(device)
        return
    if not devices:
        err.print("The user is signed in nowhere.")
        return
    titles = ("device ID", "name", "kind", "address", "signed in", "last seen", "ends", "")
    table = Table(*titles, box=None, pad_edge=False)
    for device in devices:
        table.add_row(*(Text(printable(cell)) for cell in _cells(device)))
    show(table, whole_lines=True)


@app.command("revoke")
@errors_in_one_line()
@calls_server()
def devices_revoke(
    target: Target,
    user: UserArgument,
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            metavar="TEXT",
            help="The reason, for the event of the revocation. For example: lost_phone.",
        ),
    ],
    device: Annotated[
        str | None,
        typer.Argument(metavar="DEVICE", help="Only on this device; see `devices list`."),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="On all devices.")] = False,
    all_but: Annotated[
        str | None,
        typer.Option(
            "--all-but", metavar="DEVICE", help="On all devices but this.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a user out: on one device, on all devices, or on all devices but one. Exit code 1 means
    that the user was signed in on none of these devices.
    """
    from session_authority.console.support import CallFailed, revoke_all, revoke_device

    if [device is not None, everywhere, all_but is not None].count(True) != 1:
        fail("name one device, or give --all, or --all-but DEVICE", WRONG_USAGE)
    try:
        if device is not None:
            revoked = revoke_device(target, user, device, reason)
        else:
            revoked = revoke_all(target, user, reason, all_but or "")
    except CallFailed as error:
        fail(str(error))
    if as_json:
        show_json({"user_id": user, "revoked_devices": revoked})
    elif revoked:
        devices = "1 device" if revoked == 1 else f"{revoked} devices"
        out.print(f"Signed out on {devices}.", markup=False)
    else:
        err.print("The user was not signed in there.", markup=False)
    if not revoked:
        raise typer.Exit(FAILED)


def _cells(device: dict[str, Any]) -> tuple[str, ...]:
    return (
        device["device_id"],
        device["display_name"],
        device["form_factor"].removeprefix("FORM_FACTOR_").lower(),
        device.get("last_client", {}).get("ip_address") or "-",
        *(
            minute(device.get(name, ""))
            for name in ("sign_in_time", "last_seen_time", "expire_time")
        ),
        "" if device["signed_in"] else "signed out",
    )


def minute(moment: str) -> str:
    """Returns a moment in a form for tables, without seconds. `moment` is a time in protobuf's JSON
    format. For an empty text, returns `-`.
    """
    return f"{moment[:10]} {moment[11:16]}Z" if moment else "-"
