"""Stores in Redis which relay delivers events to which endpoint, and which events have been
delivered.

The event stream of each partition has a consumer group for each endpoint, with the endpoint's name.
Each partition also has a lease for each endpoint. At most one relay holds the lease, and takes
events from the stream. The relay settles an event when the delivery has ended: the event was
delivered, does not concern the endpoint, or has become a dead letter. All relays use the same
consumer name. So after a relay dies, the next holder of the lease finds the events that were taken
but not settled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.events import Event
from session_authority.domain.moments import MILLISECOND, from_ms, to_ms
from session_authority.store import codec
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import (
    ResponseError,
    unavailable,
)
from session_authority.store.driver.read_paths import read_path_of
from session_authority.store.driver.reads import Reads
from session_authority.store.driver.replies import fields_of
from session_authority.store.driver.traffic import traffic_of
from session_authority.store.driver.writes import Script, Writes
from session_authority.store.event_log import EVENT_FIELD, EVENT_LOG_CONNECTIONS
from session_authority.store.key_names import PARTITIONS, TAGS, KeyNames
from session_authority.store.log_position import (
    START,
    EntryId,
    entry_id,
    entry_text,
    event_id,
)

# How long a lease lasts after it was acquired or extended, and how long a relay counts as alive
# after the relay last called `enlist`. The holder of a lease extends the lease every three seconds.
# Another relay must replace a dead relay within ten seconds. Relays check about every two seconds
# for free leases, so a lease may last at most about eight seconds.
LEASE_TIME = timedelta(seconds=7)
MAX_DEAD_LETTERS_PER_PARTITION = 1000
CONSUMER = "relay"
_PAGE_ENTRIES = 100


class LeaseLost(Exception):
    """A relay no longer holds the lease of a partition for an endpoint. Another relay may already
    deliver the partition's events to the endpoint.
    """


class GroupGone(Exception):
    """The consumer group of an endpoint no longer exists in Redis. So Redis no longer knows which
    events were delivered to the endpoint.
    """


@dataclass(frozen=True, slots=True)
class Attempts:
    """Says how many attempts to deliver an event have failed, and when the first one was made."""

    count: int
    first_at: datetime


@dataclass(frozen=True, slots=True)
class TakenEvent:
    """An event that a relay has taken and must deliver. `raw` is the encoded event: a relay may
    hold thousands of events, and a decoded event would occupy several times as much memory.
    `attempts` is None if no failed attempt is known.
    """

    entry: EntryId
    event_id: str
    addresses: AddressDetail
    raw: bytes
    attempts: Attempts | None = None

    @property
    def event(self) -> Event | None:
        """The event, decoded again at each access. None if the event can't be decoded, or was
        removed from the log before `raw` was read.
        """
        return _readable(self.raw, self.addresses)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not be delivered.

    `entry` is the ID of the dead letter in the stream of dead letters. `event` is None if the event
    can't be decoded, or if the log no longer had the event when a relay read it for delivery.
    `attempts` is the number of failed attempts, and `reason` says why the last attempt failed.
    `given_up_at` is when the relay gave up the delivery.
    """

    partition: int
    entry: str
    event_id: str
    event: Event | None
    attempts: int
    reason: str
    given_up_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """Counts the events and the relays of one endpoint.

    `waiting` is the number of events that no relay has taken yet. If Redis does not report the
    number for a partition, `waiting` counts at most 1,000 events of this partition. `taken` is the
    number of events whose delivery a relay has begun but not ended. `dead` is the number of dead
    letters. `relays` is the number of relays that hold at least one lease. `partitions` is the
    number of partitions whose lease is held by a relay.
    """

    waiting: int
    taken: int
    dead: int
    relays: int
    partitions: int


class Deliveries:
    """Keeps the state of all deliveries in Redis. Every method except `close` raises
    StoreUnavailable if Redis is unreachable, slow, or refuses a command.
    """

    def __init__(
        self,
        client: RedisClient,
        keys: KeyNames,
        *,
        max_connections: int = 64,
        addresses: AddressDetail = AddressDetail.FULL,
    ) -> None:
        self._addresses = addresses
        self._client = client
        self.keys = keys
        self._path = read_path_of(client, keys.probe)
        self._writes = Writes(
            self._path, max(1, max_connections - EVENT_LOG_CONNECTIONS - 2), traffic_of(client)
        )
        self.reads = Reads(self._path)
        self._take, self._settle = Script("take"), Script("settle", asks_first=True)
        self._unlease, self._enlist = Script("unlease"), Script("enlist")

    async def enlist(self, endpoint: str, relay: str) -> int:
        """Stores that a relay is alive and delivers to an endpoint. The relay counts as alive for
        `LEASE_TIME`. Returns the number of relays that are alive and deliver to the endpoint.
        """
        return await self._set_alive(endpoint, relay, "1")

    async def leave(self, endpoint: str, relay: str) -> None:
        """Stores that a relay is about to end, so that the relay no longer counts as alive for an
        endpoint.
        """
        await self._set_alive(endpoint, relay, "0")

    async def _set_alive(self, endpoint: str, relay: str, here: str) -> int:
        keys = [self.keys.relays(endpoint)]
        args: list[str | int] = [relay, LEASE_TIME // MILLISECOND, here]
        count: int = await self._writes.run(lambda: self._enlist.run(self._client, keys, args))
        return count

    async def lease(self, number: int, endpoint: str, relay: str) -> bool:
        """Acquires the lease of a partition for an endpoint, if no relay holds the lease. Returns
        True if the given relay holds the lease after the call, even if it already held the lease
        before.
        """
        key = self.keys.lease(number, endpoint)
        command = ("SET", key, relay, "NX", "PX", LEASE_TIME // MILLISECOND)
        if await self._writes.run(lambda: self._client.execute_command(*command)) is not None:
            return True
        # SET failed because the lease is held. If the reply to an earlier SET was lost, the given
        # relay may be the holder.
        holder: bytes | None = await self._writes.run(
            lambda: self._client.execute_command("GET", key)
        )
        return holder == relay.encode()

    async def release(self, number: int, endpoint: str, relay: str) -> None:
        """Gives up the lease of a partition for an endpoint, if the given relay holds the lease."""
        keys = [self.keys.lease(number, endpoint)]
        await self._writes.run(lambda: self._unlease.run(self._client, keys, [relay]))

    async def take(
        self, number: int, endpoint: str, relay: str, count: int
    ) -> Sequence[TakenEvent]:
        """Takes up to `count` events that no relay has taken before, and extends the lease.

        Args:
            number: The partition.
            endpoint: The name of the endpoint.
            relay: The relay that holds the lease.
            count: The maximum number of events. With 0, `take` only extends the lease.

        Raises LeaseLost if the relay does not hold the lease, and GroupGone if the endpoint's
        consumer group does not exist.
        """
        entries, _ = await self._taken(number, endpoint, relay, ">", count)
        return [self._event(number, *entry) for entry in entries]

    async def unsettled(
        self, number: int, endpoint: str, relay: str, but: Container[EntryId] = ()
    ) -> Sequence[TakenEvent]:
        """Returns the events whose delivery a relay has begun but not ended, the oldest first.
        Extends the lease.

        Args:
            number: The partition.
            endpoint: The name of the endpoint.
            relay: The relay that holds the lease.
            but: The entries of the events to leave out.

        Raises LeaseLost if the relay does not hold the lease, and GroupGone if the endpoint's
        consumer group does not exist.
        """
        found: list[TakenEvent] = []
        after = START
        while True:
            entries, attempts = await self._taken(
                number, endpoint, relay, entry_text(after), _PAGE_ENTRIES
            )
            found += [
                self._event(number, entry, raw, attempts.get(entry))
                for entry, raw in entries
                if entry not in but
            ]
            if len(entries) < _PAGE_ENTRIES:
                return found
            after = entries[-1][0]

    async def _taken(
        self, number: int, endpoint: str, relay: str, after: str, count: int
    ) -> tuple[list[tuple[EntryId, bytes]], Mapping[EntryId, Attempts]]:
        keys = [
            self.keys.lease(number, endpoint),
            self.keys.stream(number),
            self.keys.attempts(number, endpoint),
        ]
        args: list[str | int] = [
            relay,
            LEASE_TIME // MILLISECOND,
            endpoint,
            CONSUMER,
            after,
            count,
        ]
        reply = await self._writes.run(lambda: self._run_take(keys, args))
        if reply is None:
            raise GroupGone
        if reply[0] == 0:
            raise LeaseLost
        _, entries, noted = reply
        attempts = {
            entry_id(entry): _attempts(raw)
            for entry, raw in zip(noted[::2], noted[1::2], strict=True)
        }
        return [(entry_id(entry), _field(fields)) for entry, fields in entries], attempts

    async def _run_take(self, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        try:
            return await self._take.run(self._client, keys, args)
        except ResponseError as error:
            if "NOGROUP" in str(error):
                return None
            raise

    def _event(
        self, number: int, entry: EntryId, raw: bytes, attempts: Attempts | None = None
    ) -> TakenEvent:
        return TakenEvent(entry, event_id(number, entry), self._addresses, raw, attempts)

    async def start_group(self, number: int, endpoint: str, after: EntryId | None) -> None:
        """Creates the consumer group of an endpoint in a partition, if the group does not exist.
        The group begins with the event after the entry `after`. If `after` is None, the group
        begins with the next event that is written to the partition.
        """
        start = "$" if after is None else entry_text(after)

        async def create() -> None:
            try:
                stream = self.keys.stream(number)
                await self._client.execute_command(
                    "XGROUP", "CREATE", stream, endpoint, start, "MKSTREAM"
                )
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        await self._writes.run(create)

    async def settle(self, number: int, endpoint: str, entries: Sequence[EntryId]) -> None:
        """Stores that the delivery of these events to an endpoint has ended, because the events
        were delivered or do not concern the endpoint.
        """
        await self._run_settle(number, endpoint, entries)

    async def put_aside(
        self,
        number: int,
        endpoint: str,
        taken: TakenEvent,
        attempts: int,
        reason: str,
        now: datetime,
    ) -> None:
        """Moves an event to the endpoint's dead letters. If the delivery of the event has already
        ended, stores no dead letter. The IP addresses in the dead letter are reduced to the detail
        that the service is set to keep.

        Args:
            number: The partition.
            endpoint: The name of the endpoint.
            taken: The event.
            attempts: The number of attempts to deliver the event.
            reason: The reason why the last attempt failed.
            now: The time when the relay gave up the delivery.
        """
        raw = taken.raw
        if self._addresses is not AddressDetail.FULL and (event := taken.event) is not None:
            raw = codec.encode_event(event)
        letter: list[str | bytes | int] = ["event", raw, "entry", entry_text(taken.entry)]
        letter += ["attempts", attempts, "reason", reason, "given_up", to_ms(now)]
        await self._run_settle(number, endpoint, [taken.entry], letter)

    async def _run_settle(
        self,
        number: int,
        endpoint: str,
        entries: Sequence[EntryId],
        letter: Sequence[str | bytes | int] = (),
    ) -> None:
        keys = [
            self.keys.stream(number),
            self.keys.attempts(number, endpoint),
            self.keys.dead_letters(number, endpoint),
        ]
        args = [
            endpoint,
            MAX_DEAD_LETTERS_PER_PARTITION,
            len(entries),
            *map(entry_text, entries),
            *letter,
        ]
        await self._writes.run(lambda: self._settle.run(self._client, keys, args))

    async def note_failure(
        self, number: int, endpoint: str, entry: EntryId, attempts: Attempts
    ) -> None:
        """Stores the failed attempts to deliver an event, so that the next holder of the lease
        knows the number of attempts.

        Args:
            number: The partition.
            endpoint: The name of the endpoint.
            entry: The entry of the event.
            attempts: All failed attempts to deliver the event so far.
        """
        key, text = (
            self.keys.attempts(number, endpoint),
            f"{attempts.count} {to_ms(attempts.first_at)}",
        )
        await self._writes.run(
            lambda: self._client.execute_command("HSET", key, entry_text(entry), text)
        )

    async def dead_letters(
        self, endpoint: str, event: str | None = None
    ) -> AsyncIterator[DeadLetter]:
        """Yields the dead letters of an endpoint, one partition after another. If `event` is the ID
        of an event, yields only the dead letters of this event. In each partition the oldest dead
        letter comes first.
        """
        for number in range(PARTITIONS):
            if event is not None and not event.startswith(f"evt_{TAGS[number]}_"):
                continue
            after = "-"
            while True:
                key = self.keys.dead_letters(number, endpoint)
                [page] = await self.reads.ask(
                    [("XRANGE", key, after, "+", "COUNT", str(_PAGE_ENTRIES))]
                )
                for letter, fields in page:
                    stored = fields_of(fields)
                    event_of_letter = _readable(stored[b"event"], self._addresses)
                    found = _dead_letter(number, letter, stored, event_of_letter)
                    if event in (None, found.event_id):
                        yield found
                if len(page) < _PAGE_ENTRIES:
                    break
                after = f"({page[-1][0].decode()}"

    async def drop(self, endpoint: str, letter: DeadLetter) -> bool:
        """Removes a dead letter of an endpoint. Returns True if the dead letter still existed."""
        key = self.keys.dead_letters(letter.partition, endpoint)
        return bool(
            await self._writes.run(lambda: self._client.execute_command("XDEL", key, letter.entry))
        )

    async def state(self, endpoint: str) -> DeliveryState:
        """Reads the state of the deliveries to an endpoint."""
        numbers = range(PARTITIONS)
        groups = await groups_of(self.reads, self.keys)
        dead = await self.reads.ask(
            [("XLEN", self.keys.dead_letters(n, endpoint)) for n in numbers]
        )
        holders = await self.reads.ask([("GET", self.keys.lease(n, endpoint)) for n in numbers])
        mine = {n: group[endpoint] for n, group in enumerate(groups) if endpoint in group}
        unknown = {n: g["last-delivered-id"] for n, g in mine.items() if g.get("lag") is None}
        uncounted = await self.reads.ask(
            [
                ("XRANGE", self.keys.stream(n), f"({last}", "+", "COUNT", "1000")
                for n, last in unknown.items()
            ]
        )
        return DeliveryState(
            waiting=sum(int(group["lag"]) for n, group in mine.items() if n not in unknown)
            + sum(map(len, uncounted)),
            taken=sum(int(group["pending"]) for group in mine.values()),
            dead=sum(map(int, dead)),
            relays=len({holder for holder in holders if holder is not None}),
            partitions=sum(holder is not None for holder in holders),
        )

    async def close(self) -> None:
        """Waits for the replies to all commands that were sent, then closes the connections."""
        await self._writes.settled()
        await self.reads.settled()
        await self._client.aclose()


def _readable(raw: bytes, addresses: AddressDetail) -> Event | None:
    """Decodes an event, and reduces its IP addresses to the detail `addresses`. Returns None if
    `raw` is empty or can't be decoded.
    """
    try:
        return codec.decode_event(raw).kept(addresses) if raw else None
    except codec.UnreadableRecord:
        return None


def _attempts(raw: bytes) -> Attempts:
    count, _, first = raw.decode().partition(" ")
    return Attempts(int(count), from_ms(int(first)))


def _field(fields: Any) -> bytes:
    """Returns the encoded event from the fields of a stream entry. Returns an empty value if the
    entry was removed from the log after a relay took the event.
    """
    return b"" if fields is None else fields_of(fields).get(EVENT_FIELD, b"")


def _dead_letter(
    number: int, letter: bytes, found: Mapping[bytes, bytes], event: Event | None
) -> DeadLetter:
    entry = entry_id(found[b"entry"])
    return DeadLetter(
        partition=number,
        entry=letter.decode(),
        event_id=event_id(number, entry),
        event=event,
        attempts=int(found[b"attempts"]),
        reason=found[b"reason"].decode(),
        given_up_at=from_ms(int(found[b"given_up"])),
    )


async def groups_of(reads: Reads, keys: KeyNames) -> list[dict[str, dict[str, Any]]]:
    """Returns the consumer groups of each partition's event stream, by the name of the group. If a
    stream does not exist yet, its mapping is empty. Raises StoreUnavailable if Redis is
    unreachable, slow, or refuses a command.
    """
    found: list[dict[str, dict[str, Any]]] = []
    for reply in await reads.send([("XINFO", "GROUPS", keys.stream(n)) for n in range(PARTITIONS)]):
        if isinstance(reply, ResponseError) and "no such key" in str(reply):
            found.append({})
        elif isinstance(reply, Exception):
            raise unavailable(reply)
        else:
            found.append({group["name"]: group for group in map(_info, reply)})
    return found


def _info(group: Any) -> dict[str, Any]:
    """Decodes one consumer group of a reply to XINFO GROUPS."""
    return {_string(name): _string(value) for name, value in fields_of(group).items()}


def _string(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
