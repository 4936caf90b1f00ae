"""Implements `session-authority inspect`, which shows the records of a user in Redis, and removes
records that can't be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from session_authority.cli.audited import audit, audited
from session_authority.cli.devices import UserArgument
from session_authority.cli.relay_options import relay_settings
from session_authority.cli.terminal import (
    FAILED,
    WRONG_USAGE,
    JsonOption,
    err,
    errors_in_one_line,
    fail,
    out,
    show,
    show_json,
    when,
)
from session_authority.domain.errors import Conflict, StoreUnavailable
from session_authority.domain.session_limits import SessionLimits
from session_authority.processes.inspection import inspection_of
from session_authority.runtime import logs
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings
from session_authority.runtime.text import printable
from session_authority.store import Inspected, Inspection, Repaired
from session_authority.store.inspection import unreadable_claims
from session_authority.store.records import RecordKind, Stored, Unreadable

_HASHES = {
    RecordKind.SESSION: "sessions",
    RecordKind.DEVICE: "devices",
    RecordKind.CLAIMS: "claims",
}
_STEPS = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min"))
_T = TypeVar("_T")
Row = dict[str, Any]


@errors_in_one_line()
@audited("inspect", "user", "repair")
def inspect(
    user: UserArgument,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove what can't be read, but not what a later version of the service wrote.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Repair without asking first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the records of a user in Redis, and the records that can't be read. Exit code 1 means
    that a record can't be read and was not repaired.

    The command asks Redis itself, so it also works while no service runs. If a repair ends a
    session, watchers get an event.
    """
    if repair and as_json and not yes:
        fail("--repair: asks first, which programs can't answer: give --yes, too", WRONG_USAGE)
    settings = relay_settings()
    found = _run(settings, lambda inspection: inspection.inspect(user))
    rows = list(_rows(found, settings.session_limits(), now()))
    if as_json:
        for row in rows:
            show_json(row)
    elif rows:
        _show(rows)
    else:
        err.print("Redis holds nothing of this user.")
    left = found.unreadable_count
    if repair and left:
        if not yes:
            typer.confirm("Remove what can't be read?", abort=True, err=True)
        repaired, left = _run(settings, lambda inspection: _repair(inspection, user))
        _tell(repaired, left, as_json)
    if left:
        audit(outcome="OK", unreadable=left)  # exit code 1 means no failure here
        raise typer.Exit(FAILED)


async def _repair(inspection: Inspection, user: str) -> tuple[Repaired, int]:
    """Removes the records of a user that can't be read. Returns the removed records, and the number
    of records that still can't be read. Most of the remaining records were written by a later
    version of the service. A repair keeps the records of a later version.
    """
    repaired = await inspection.repair(user, now())
    return repaired, (await inspection.inspect(user)).unreadable_count


def _run(settings: Settings, work: Callable[[Inspection], Coroutine[Any, Any, _T]]) -> _T:
    """Runs `work` with the records in Redis, and returns its result. The command fails if Redis
    gives no answer, or if the records keep changing.
    """

    async def run() -> _T:
        async with inspection_of(settings) as inspection:
            return await work(inspection)

    logs.configure("critical")  # unreadable records are shown, not logged
    try:
        return asyncio.run(run())
    except StoreUnavailable:
        fail("Redis does not answer, or refuses")
    except Conflict:
        fail("the records keep changing; try again")


def _rows(found: Inspected, limits: SessionLimits, moment: datetime) -> Iterator[Row]:
    """Yields what `--json` prints: a row for each key and for each record."""
    state = found.state
    for name in found.keys:
        readable = name.kind not in found.other_types
        yield {
            "kind": "key",
            "name": "quiet event" if name.kind is None else _HASHES[name.kind],
            "redis_key": name.name,
            "readable": readable,
            "reason": "" if readable else "it is of another type",
            "ttl_seconds": name.time_to_live and int(name.time_to_live.total_seconds()),
        }
    ids = {key: str(stored.record.device_id) for key, stored in state.devices.items()}
    for key, session in state.sessions.items():
        record = session.record
        yield _record(RecordKind.SESSION, key, ids) | {
            "session_id": record.session_id.hex(),
            "generation": record.generation,
            "live": record.is_live(limits, moment),
            "sign_in_time": record.signed_in_at,
            "last_seen_time": record.last_seen_at,
            "expire_time": record.expires_at(limits),
        }
    yield from _unreadable(RecordKind.SESSION, state.unreadable_sessions, ids)
    for key, device in state.devices.items():
        yield _record(RecordKind.DEVICE, key, ids) | {
            "display_name": device.record.shown_name(),
            "create_time": device.record.first_seen_at,
            "last_seen_time": device.record.last_seen_at,
        }
    yield from _unreadable(RecordKind.DEVICE, state.unreadable_devices, ids)
    for key, claims in (found.claims or {}).items():
        if isinstance(claims, Stored):
            yield _record(RecordKind.CLAIMS, key, ids) | {
                "session_id": claims.record.session_id.hex(),
                "claims": dict(claims.record.claims),
                "auth_methods": list(claims.record.auth_methods),
            }
    yield from _unreadable(RecordKind.CLAIMS, unreadable_claims(found.claims), ids)


def _record(kind: RecordKind, key: bytes, ids: Mapping[bytes, str]) -> Row:
    return {
        "kind": kind.value,
        "device_key": key.hex(),
        "device_id": ids.get(key, ""),
        "readable": True,
    }


def _unreadable(
    kind: RecordKind, records: Mapping[bytes, Unreadable], ids: Mapping[bytes, str]
) -> Iterator[Row]:
    for key, record in records.items():
        yield _record(kind, key, ids) | {
            "readable": False,
            "reason": record.reason,
            "of_later_version": record.later,
            "bytes": len(record.raw),
        }


def _show(rows: list[Row]) -> None:
    titles = ("record", "device", "begun", "last seen", "age", "ends", "")
    table = Table(*titles, box=None, pad_edge=False)
    moment = now()
    for row in rows:
        if row["kind"] == "key":
            continue
        begun = row.get("sign_in_time") or row.get("create_time")
        cells = (
            row["kind"],
            row["device_id"] or f"key {row['device_key']}",
            when(begun),
            when(row.get("last_seen_time")),
            "-" if begun is None else _in_words(moment - begun),
            when(row.get("expire_time")),
            _state(row),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if table.row_count:
        show(table, whole_lines=True)
    for row in rows:
        if row["kind"] == "key":
            life = row["ttl_seconds"]
            told = "for ever" if life is None else f"for {_in_words(timedelta(seconds=life))}"
            state = "" if row["readable"] else f"; UNREADABLE: {row['reason']}"
            line = f"key {row['redis_key']} ({row['name']}): kept {told}{state}"
            out.print(printable(line), markup=False, soft_wrap=True)


def _state(row: Row) -> str:
    if not row["readable"]:
        return f"UNREADABLE: {row['reason']}"
    if row["kind"] == RecordKind.DEVICE.value:
        return str(row["display_name"])
    if row["kind"] == RecordKind.CLAIMS.value:
        return ", ".join(f"{name}={value}" for name, value in sorted(row["claims"].items()))
    return "live" if row["live"] else "ended"


def _in_words(span: timedelta) -> str:
    """Returns a span of time in words, rounded down to the largest unit that fits."""
    for unit, name in _STEPS:
        if span >= unit:
            return f"{span // unit} {name}"
    return f"{max(int(span.total_seconds()), 0)} s"


def _tell(repaired: Repaired, left: int, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "kind": "repair",
                "removed_sessions": [key.hex() for key in repaired.sessions],
                "removed_devices": [key.hex() for key in repaired.devices],
                "removed_claims": [key.hex() for key in repaired.claims],
                "removed_keys": sorted(_HASHES[kind] for kind in repaired.other_types),
                "left": left,
            }
        )
        return
    parts = (
        (len(repaired.sessions), "session record"),
        (len(repaired.devices), "device record"),
        (len(repaired.claims), "record of claims"),
        (len(repaired.other_types), "key of another type"),
    )
    told = [f"{n} {what if n == 1 else _plural(what)}" for n, what in parts if n]
    if told:
        out.print(f"Removed {', '.join(told)}.", markup=False)
    if left:
        err.print(f"Left alone: {left} of a later version of the service.", markup=False)


def _plural(what: str) -> str:
    noun, of, rest = what.partition(" of ")
    return f"{noun}s{of}{rest}"
