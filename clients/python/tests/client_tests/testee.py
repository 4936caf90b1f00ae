"""The testee of the Python client: it makes the calls that a runner wants, by JSON lines on
standard input and output.

The lines are described in `clients/vectors/TESTEE.md`.

    python -m client_tests.testee asyncio      the client for asyncio
    python -m client_tests.testee threads      the client for threads
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from client_tests.harness import KINDS
from client_tests.testee_app import APPS
from session_authority_client import (
    ClientInfo,
    Device,
    NearCache,
    Session,
    SessionAuthorityError,
    SessionName,
    Validation,
)

# Each call of the client for threads blocks a thread. A runner has about a hundred calls in flight.
_THREADS = 400

Command = Mapping[str, Any]
Note = Callable[[Mapping[str, Any]], None]
Reply = dict[str, Any]


class BadCommand(Exception):
    """A command lacks a field, or names a client that is not connected."""


class UnknownCommand(Exception):
    """A command has a name that this testee does not know."""


_KINDS = {BadCommand: "bad_command", UnknownCommand: "unknown_command"}


def now_ms() -> float:
    """The time now, in Unix milliseconds."""
    return time.time_ns() / 1e6


def field(command: Command, name: str) -> Any:
    """The value of a field that a command must have. Raises BadCommand."""
    if name not in command:
        raise BadCommand(f"the command has no {name}")
    return command[name]


def chosen(command: Command, *names: str) -> dict[str, Any]:
    """The optional fields that a command has, as arguments."""
    return {name: command[name] for name in names if command.get(name) is not None}


def within(command: Command) -> dict[str, Any]:
    """The timeout of one call, as an argument."""
    timeout = command.get("timeout_ms")
    return {} if timeout is None else {"timeout": timedelta(milliseconds=timeout)}


# --- replies --------------------------------------------------------------------------------------


def kind_of(error: SessionAuthorityError) -> str:
    """The kind of an error, as the vectors name it."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
    return "other" if name == "session_authority_error" else name


def error_reply(error: Exception) -> Reply:
    """The reply for an exception."""
    if isinstance(error, SessionAuthorityError):
        retry_after = error.retry_after
        return {
            "kind": kind_of(error),
            "code": error.code.name,
            "reason": error.reason,
            "message": str(error),
            "retry_after_ms": None if retry_after is None else retry_after / timedelta(0, 0, 1000),
            "violations": [
                {"field": each.field, "description": each.description} for each in error.violations
            ],
        }
    kind = _KINDS.get(type(error))
    if kind is not None:
        return {"kind": kind, "message": str(error)}
    traceback.print_exception(error)  # to standard error, for the runner to show
    return {"kind": "crashed", "message": f"{type(error).__name__}: {error}"}


def session_reply(session: Session | None) -> Reply | None:
    """A session, as a reply shows it."""
    if session is None:
        return None
    return {
        "user_id": session.user_id,
        "device_id": session.device_id,
        "session_id": session.session_id,
        "generation": session.generation,
        "claims": dict(session.claims),
    }


def device_reply(device: Device) -> Reply:
    """A device of a list, as a reply shows it."""
    names = ("device_id", "display_name", "session_id", "current", "signed_in")
    return {name: getattr(device, name) for name in names}


def validation_reply(answer: Validation) -> Reply:
    """The answer to a validation, as a reply shows it."""
    return {
        "active": answer.active,
        "status": answer.status.name,
        "device_id": answer.device_id,
        "device_id_assigned": answer.device_id_assigned,
        "renew_recommended": answer.renew_recommended,
        "revoked_devices": answer.revoked_devices,
        "session": session_reply(answer.session),
    }


# --- commands -------------------------------------------------------------------------------------


async def validate(client: Any, command: Command, _: Note) -> Reply:
    asked = within(command) | chosen(command, "observe_only", "passive")
    if command.get("user_agent") is not None:
        asked["client"] = ClientInfo(user_agent=command["user_agent"])
    token, device_id = field(command, "access_token"), field(command, "device_id")
    started = now_ms()
    answer = await client.validate_session(token, device_id, **asked)
    return {**validation_reply(answer), "started": started, "ended": now_ms()}


async def validate_many(client: Any, command: Command, _: Note) -> Reply:
    async def one(item: Command) -> Reply:
        try:
            token, device_id = field(item, "access_token"), field(item, "device_id")
            answer = await client.validate_session(token, device_id, **within(command))
        except (SessionAuthorityError, BadCommand) as error:
            return {"error": error_reply(error)}
        return {"ok": validation_reply(answer)}

    return {"results": await asyncio.gather(*map(one, field(command, "items")))}


async def validate_batch(client: Any, command: Command, _: Note) -> Reply:
    items = [(item["access_token"], item["device_id"]) for item in field(command, "items")]
    results = await client.validate_sessions(items, **within(command))
    return {
        "results": [
            {"error": error_reply(result)}
            if isinstance(result, SessionAuthorityError)
            else {"ok": validation_reply(result)}
            for result in results
        ]
    }


async def poll(client: Any, command: Command, note: Note) -> Reply:
    token, device_id = field(command, "access_token"), field(command, "device_id")
    asked, errors, last_active = 0, 0, None
    while True:
        started = now_ms()
        asked += 1
        try:
            answer = await client.validate_session(token, device_id, **within(command))
        except SessionAuthorityError:
            errors += 1
        else:
            if not answer.active:
                break
            if last_active is None:
                note({"active": True})
            last_active = started
        await asyncio.sleep(field(command, "interval_ms") / 1000)
    return {
        "status": answer.status.name,
        "asked": asked,
        "errors": errors,
        "last_active_started": last_active,
        "denied_started": started,
        "denied_ended": now_ms(),
    }


async def renew(client: Any, command: Command, _: Note) -> Reply:
    token, device_id = field(command, "access_token"), field(command, "device_id")
    answer = await client.renew_session(token, device_id, **within(command))
    return {
        "active": answer.session is not None,
        "status": answer.status.name,
        "rotated": answer.rotated,
        "access_token": answer.access_token,
        "session": session_reply(answer.session),
    }


async def sign_in(client: Any, command: Command, _: Note) -> Reply:
    named = chosen(command, "device_id", "request_id", "claims")
    issued = await client.issue_device(field(command, "user_id"), **named, **within(command))
    return {
        "access_token": issued.access_token,
        "device": device_reply(issued.device),
        "device_id_assigned": issued.device_id_assigned,
        "new_device": issued.new_device,
    }


async def revoke(client: Any, command: Command, _: Note) -> Reply:
    user_id, device_id = field(command, "user_id"), field(command, "device_id")
    more = chosen(command, "reason") | within(command)
    return {"revoked": await client.revoke_device(user_id, device_id, **more)}


async def revoke_all(client: Any, command: Command, _: Note) -> Reply:
    more = chosen(command, "except_device_id") | within(command)
    return {"revoked_devices": await client.revoke_all(field(command, "user_id"), **more)}


async def list_devices(client: Any, command: Command, _: Note) -> Reply:
    more = chosen(command, "current_device_id", "page_size", "page_token") | within(command)
    page = await client.list_devices(field(command, "user_id"), **more)
    return {
        "devices": [device_reply(device) for device in page.devices],
        "next_page_token": page.next_page_token,
        "total_size": page.total_size,
    }


async def check(client: Any, command: Command, _: Note) -> Reply:
    names = [SessionName(**name) for name in field(command, "sessions")]
    states = await client.check_sessions(names, **within(command))
    return {"statuses": [state.status.name for state in states]}


async def watch(client: Any, command: Command, note: Note) -> Reply:
    async for batch in client.watch_events(**chosen(command, "cursor")):
        note({"events": [event.type.name for event in batch.events], "cursor": batch.cursor})
    return {}


async def close(client: Any, _: Command, __: Note) -> Reply:
    await client.close()
    return {}


CALLS: Mapping[str, Callable[[Any, Command, Note], Awaitable[Reply]]] = {
    "validate": validate,
    "validate_many": validate_many,
    "validate_batch": validate_batch,
    "poll": poll,
    "renew": renew,
    "sign_in": sign_in,
    "revoke": revoke,
    "revoke_all": revoke_all,
    "list": list_devices,
    "check": check,
    "watch": watch,
    "close": close,
}


def cache_of(command: Command) -> NearCache | None:
    """The cache that a command wants. None if the command wants no cache."""
    wanted = command.get("cache")
    if wanted is None:
        return None
    ages: dict[str, Any] = {
        name: timedelta(milliseconds=wanted[f"{name}_ms"])
        for name in ("max_age", "max_silence")
        if wanted.get(f"{name}_ms") is not None
    }
    return NearCache(**chosen(wanted, "max_entries"), **ages)


class Testee:
    """The clients of one flavour, by the names that the runner gave them."""

    def __init__(self, flavour: str) -> None:
        self._flavour = flavour
        self._clients: dict[str, Any] = {}
        self._caches: dict[str, NearCache | None] = {}
        self._apps: dict[str, Any] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Runs all commands until standard input ends."""
        commands = ["connect", *CALLS, "stats", "http"]
        self._write({"ready": f"python-{self._flavour}", "commands": commands})
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                command = json.loads(line)
            except ValueError:
                command = None
            if not isinstance(command, dict):
                error = error_reply(BadCommand("the line is no JSON object"))
                self._write({"id": None, "error": error})
                continue
            task = asyncio.create_task(self._answer(command))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        for client in self._clients.values():
            await client.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    async def _answer(self, command: Command) -> None:
        name = command.get("id")
        try:
            told = await self._do(command, lambda note: self._write({"id": name, "note": note}))
        except Exception as error:  # noqa: BLE001 - the runner hears of every failure
            self._write({"id": name, "error": error_reply(error)})
        else:
            self._write({"id": name, "ok": told})

    async def _do(self, command: Command, note: Note) -> Reply:
        name = command.get("command")
        if name == "connect":
            return self._connect(command)
        if name not in (*CALLS, "stats", "http"):
            raise UnknownCommand(f"this testee knows no command {name!r}")
        client_name = field(command, "client")
        if client_name not in self._clients:
            raise BadCommand(f"no client {client_name!r} is connected")
        if name == "stats":
            return self._stats(client_name)
        if name == "http":
            return await self._apps[client_name](command, note)  # type: ignore[no-any-return]
        return await CALLS[name](self._clients[client_name], command, note)

    def _connect(self, command: Command) -> Reply:
        name, cache = field(command, "client"), cache_of(command)
        client = KINDS[self._flavour](
            field(command, "target"),
            **within(command),
            **chosen(command, "batching", "max_in_flight"),
            cache=cache,
        )
        self._clients[name], self._caches[name] = client, cache
        self._apps[name] = APPS[self._flavour](client)
        return {}

    def _stats(self, name: str) -> Reply:
        cache = self._caches[name]
        if cache is None:
            return {"live": False, "entries": 0, "hits": 0, "misses": 0}
        stats = cache.stats()
        return {key: getattr(stats, key) for key in ("live", "entries", "hits", "misses")}


async def _main(flavour: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    await Testee(flavour).run()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
