"""Reads the records of users, commits decisions, and revokes sessions. All access to the records of
users goes through this module.

This module makes no decisions. A caller reads the records, decides with functions of `domain`, and
passes the decision as a `Commit`. No records are cached: every read asks the primary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.durability import note
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import Event, EventType
from session_authority.domain.moments import MILLISECOND
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.session_limits import (
    DEVICE_MEMORY,
    KEY_EVENT_MEMORY,
    QUIET_EVENT_INTERVAL,
    REQUEST_MEMORY,
)
from session_authority.domain.sessions import SessionRecord, StoredClaims
from session_authority.runtime.metrics import Metrics
from session_authority.store import codec
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import (
    EXCHANGE_FAILURES,
    WRONG_TYPE,
    ResponseError,
    code_of,
    driver_errors_translated,
    unavailable,
)
from session_authority.store.driver.mark_writes import MarkWrites
from session_authority.store.driver.questions import Command, Question
from session_authority.store.driver.read_lines import max_lines
from session_authority.store.driver.read_paths import read_path_of
from session_authority.store.driver.replication import NO_REPLICAS, Replicas, run_and_wait
from session_authority.store.driver.replies import fields_of, time_of
from session_authority.store.driver.traffic import traffic_of
from session_authority.store.driver.writes import Script, Writes
from session_authority.store.event_log import (
    EVENT_LOG_CONNECTIONS,
    EVENT_MEMORY,
    MAX_EVENTS_PER_PARTITION,
)
from session_authority.store.key_names import PARTITIONS, KeyNames, partition
from session_authority.store.record_reader import OTHER_TYPE, RecordReader, state_of
from session_authority.store.records import (
    AlreadyDone,
    Changed,
    Commit,
    CommitResult,
    Committed,
    IssuedRecord,
    Once,
    RecordKind,
    RemovedSessions,
    Stored,
    Unreadable,
    UserState,
)
from session_authority.store.rehearsal import Rehearsal
from session_authority.store.removed_sessions import removed_sessions

# `SessionStore.user_at` reads up to this many fields that Redis draws at random from a user's hash.
# Most users have at most four devices.
OTHERS_READ = "4"


class SessionStore:
    """Reads and changes the records of all users in Redis. If Redis is unreachable, slow, or
    refuses a command, the methods that send commands raise StoreUnavailable. But `ask_many` returns
    StoreUnavailable in place of an answer.

    `event_memory` is how long the log keeps an event. `replicas` says how many replicas must
    confirm a durable commit or a revocation. The store notes in `domain.durability` if enough
    replicas confirmed the writes. `addresses` says how exactly IP addresses are stored. If an older
    record has a more exact address, the address is reduced when the record is read.
    """

    def __init__(
        self,
        client: RedisClient,
        keys: KeyNames,
        *,
        max_connections: int = 64,
        event_memory: timedelta = EVENT_MEMORY,
        metrics: Metrics | None = None,
        replicas: Replicas = NO_REPLICAS,
        addresses: AddressDetail = AddressDetail.FULL,
    ) -> None:
        self.event_memory = event_memory
        self.replicas = replicas
        self.addresses = addresses
        self._reader = RecordReader(metrics, addresses)
        self._client = client
        self._keys = keys
        self._commit = Script("commit", asks_first=True)
        self._revoke = Script("revoke", asks_first=True)
        self._trim = Script("trim", asks_first=True)
        self._reads = read_path_of(client, keys.probe)
        self._marks = MarkWrites(self._ask_apart)
        # Writes do not use the following connections: the connections of the read lines and of the
        # event log, one connection for marks, and one spare connection.
        others = max_lines(max_connections) + EVENT_LOG_CONNECTIONS + 1 + 1
        self._writes = Writes(self._reads, max(1, max_connections - others), traffic_of(client))
        self._rehearsal = Rehearsal(client, keys, self._writes)

    def question(self, user_id: str, key: bytes) -> Question:
        """Returns the question that `ask` and `ask_many` need to read the session on one device. A
        caller that reads the session often may keep the question and use it again.
        """
        return self._reads.question("HGET", self._keys.sessions(user_id), key)

    async def ask(self, question: Question) -> bytes | None:
        """Returns the stored bytes of the session that `question` asks for. Returns None if there
        is no session, or if the Redis key of the user's sessions is not a hash.
        """
        try:
            found: bytes | None = await self._reads.ask(question)
        except EXCHANGE_FAILURES as error:
            failure = _failure(error)
            if failure is None:
                return None
            raise failure from None
        return found

    async def ask_many(self, questions: Sequence[Question]) -> list[bytes | Exception | None]:
        """Returns the answer to each question, in the same order. An answer is the stored bytes of
        the session, or None if there is no session. An answer is StoreUnavailable if Redis was
        unreachable, slow, or refused the read.
        """
        found = await self._reads.ask_many(questions)
        return [_failure(one) if isinstance(one, Exception) else one for one in found]

    async def session(self, user_id: str, key: bytes) -> Stored[SessionRecord] | None:
        """Returns the session on one device. Returns None if there is no session, or if its record
        can't be read.
        """
        name = self._keys.sessions(user_id)
        raw = await self._read(RecordKind.SESSION, user_id, "HGET", name, key)
        if raw is None or isinstance(raw, Unreadable):
            return None
        found = self._reader.session(user_id, key, raw)
        return None if isinstance(found, Unreadable) else found

    async def device(self, user_id: str, key: bytes) -> Stored[DeviceRecord] | None:
        """Returns the record of one device. Returns None if there is no record, or if it can't be
        read.
        """
        name = self._keys.devices(user_id)
        raw = await self._read(RecordKind.DEVICE, user_id, "HGET", name, key)
        if raw is None or isinstance(raw, Unreadable):
            return None
        found = self._reader.device(user_id, key, raw)
        return None if isinstance(found, Unreadable) else found

    async def session_and_device(
        self, user_id: str, key: bytes
    ) -> tuple[Stored[SessionRecord] | None, Stored[DeviceRecord] | None]:
        """Returns the session on one device and the record of the device. The session and the
        record are read at the same time. Returns None in place of a record that is missing or can't
        be read.
        """
        session, device = await asyncio.gather(
            self.session(user_id, key), self.device(user_id, key)
        )
        return session, device

    async def claims(self, user_id: str) -> Mapping[bytes, Stored[SessionClaims]]:
        """Returns the stored claims of a user's sessions, by device key. If the claims of a session
        can't be read, the result has empty claims with an empty session ID.
        """
        name = self._keys.claims(user_id)
        found = await self._read(RecordKind.CLAIMS, user_id, "HGETALL", name)
        if isinstance(found, Unreadable):
            return {}
        return {
            key: self._reader.claims(user_id, key, raw) for key, raw in fields_of(found).items()
        }

    async def readable_claims(
        self, user_id: str
    ) -> Mapping[bytes, Stored[SessionClaims] | Unreadable] | None:
        """Returns the stored claims of a user's sessions, by device key. If the claims of a session
        can't be read, the result has an Unreadable in place of the claims. Returns None if the
        Redis key of the claims is not a hash.
        """
        name = self._keys.claims(user_id)
        found = await self._read(RecordKind.CLAIMS, user_id, "HGETALL", name)
        if isinstance(found, Unreadable):
            return None
        read = self._reader.readable_claims
        return {key: read(user_id, key, raw) for key, raw in fields_of(found).items()}

    async def claims_of(
        self, user_id: str, key: bytes, session: Stored[SessionRecord] | None
    ) -> Stored[SessionClaims] | None:
        """Returns the claims that are stored for a session. Returns None if no claims are stored,
        if the claims can't be read, or if the claims belong to another session. If the result is
        None, the claims are only in the session's tokens. Redis is asked only if the session's
        record says that claims are stored.
        """
        if session is None or session.record.stored_claims is StoredClaims.NONE:
            return None
        name = self._keys.claims(user_id)
        raw = await self._read(RecordKind.CLAIMS, user_id, "HGET", name, key)
        if raw is None or isinstance(raw, Unreadable):
            return None
        found = self._reader.claims(user_id, key, raw)
        return found if found.record.session_id == session.record.session_id else None

    async def user(self, user_id: str, request_id: UUID | None = None) -> UserState:
        """Returns the stored sessions and devices of a user, and the result of the sign-in with the
        given `request_id`. Claims are not read.
        """
        names = self._keys.sessions(user_id), self._keys.devices(user_id)
        reads = [
            self._read(RecordKind.SESSION, user_id, "HGETALL", names[0]),
            self._read(RecordKind.DEVICE, user_id, "HGETALL", names[1]),
        ]
        if request_id is not None:
            name = self._keys.request(user_id, request_id)
            reads.append(self._read(RecordKind.REQUEST, user_id, "GET", name))
        sessions, devices, *requests = await asyncio.gather(*reads)
        return state_of(self._reader, user_id, sessions, devices, *requests)

    async def user_at(self, user_id: str, key: bytes, request_id: UUID | None = None) -> UserState:
        """Returns the session and the record of one device of a user, and the result of the sign-in
        with the given `request_id`. Also returns up to four sessions and up to four records of
        other devices, which Redis draws at random. For a user with at most four devices, returns
        all records.
        """
        names = self._keys.sessions(user_id), self._keys.devices(user_id)
        reads: list[Awaitable[Any]] = [
            self._fields_at(RecordKind.SESSION, user_id, names[0], key),
            self._fields_at(RecordKind.DEVICE, user_id, names[1], key),
        ]
        if request_id is not None:
            name = self._keys.request(user_id, request_id)
            reads.append(self._read(RecordKind.REQUEST, user_id, "GET", name))
        sessions, devices, *requests = await asyncio.gather(*reads)
        state = state_of(self._reader, user_id, sessions[0], devices[0], *requests)
        return replace(state, unread_sessions=sessions[1], unread_devices=devices[1])

    def once_for_request(
        self,
        user_id: str,
        request_id: UUID,
        issued: IssuedRecord,
        unreadable: Unreadable | None = None,
    ) -> Once:
        """Returns a Once that lets a commit take place at most once in 15 minutes for a
        `request_id`.

        Args:
            user_id: The user.
            request_id: The `request_id` of the sign-in.
            issued: The result of the sign-in, which the commit stores.
            unreadable: The result that Redis has for this `request_id`, if this result can't be
                read. The commit treats this result as missing, and replaces it.
        """
        return Once(
            self._keys.request(user_id, request_id),
            codec.encode_issued(issued),
            REQUEST_MEMORY // MILLISECOND,
            b"" if unreadable is None else unreadable.raw,
        )

    def once_for_session(self, user_id: str, session_id: bytes, kind: EventType) -> Once:
        """Returns a Once that lets a commit with a quiet event take place at most once an hour for
        a session and a type of event.
        """
        key = self._keys.told(user_id, session_id, kind)
        return Once(key, b"1", QUIET_EVENT_INTERVAL // MILLISECOND)

    def once_for_key(self, kid: str) -> Once:
        """Returns a Once that lets a commit take place at most once in 500 days for a revoked
        signing key.
        """
        return Once(self._keys.told_of_key(kid), b"1", KEY_EVENT_MEMORY // MILLISECOND)

    def once_for_removed_key(self, kid: str) -> Once:
        """Returns a Once that lets a commit take place at most once an hour for a removed signing
        key. The interval is short, because the key may be added again and removed again.
        """
        return Once(self._keys.told_of_removed_key(kid), b"1", QUIET_EVENT_INTERVAL // MILLISECOND)

    async def commit(self, commit: Commit) -> CommitResult:
        """Makes the changes of a commit, and returns Committed. Makes no changes if a condition of
        the commit is false. Returns Changed if a value in the commit's `if_*` fields differs from
        Redis. Returns AlreadyDone if the key in the commit's `once` exists.
        """
        keys = self._script_keys(commit.user_id)
        if commit.once is not None:
            keys.append(commit.once.key)
        checks: list[str | bytes] = []
        for number, expected in (
            ("1", commit.if_sessions),
            ("2", commit.if_devices),
            ("3", commit.if_claims),
        ):
            for key, stored in expected.items():
                checks += (number, key, b"" if stored is None else stored.raw)
        writes: list[str | bytes] = []
        for key, session in commit.set_sessions.items():
            writes += ("1", key, b"" if session is None else codec.encode_session(session))
        for key, device in commit.set_devices.items():
            writes += ("2", key, b"" if device is None else self._device(device))
        for key, claims in commit.set_claims.items():
            writes += ("3", key, b"" if claims is None else codec.encode_claims(claims))
        args: list[str | bytes | int] = [
            *self._event_args(commit.user_id),
            *_times_to_live(commit),
            "" if commit.if_session_count is None else commit.if_session_count,
            b"" if commit.once is None else commit.once.value,
            0 if commit.once is None else commit.once.memory_ms,
            "1" if commit.clear_sessions else "0",
            b"" if commit.once is None else commit.once.unreadable,
            len(checks) // 3,
            *checks,
            len(writes) // 3,
            *writes,
            *map(self._event, commit.events),
        ]
        if commit.is_mark and not isinstance(self._client, Cluster):
            (code, *removed), confirmed = await self._run_mark(keys, args), False
        else:
            (code, *removed), confirmed = await self._run(self._commit, keys, args, commit.durable)
        if code == 0:
            return Changed()
        if code < 0:
            return AlreadyDone()
        if commit.durable:
            note(confirmed=confirmed)
        return Committed(removed_sessions(removed))

    async def revoke_device(
        self, user_id: str, key: bytes, *, forget: bool, event: Event
    ) -> RemovedSessions:
        """Removes the session on one device, even if its record can't be read. The event is written
        only if there was a session, or if the Redis key of the user's sessions was not a hash.

        Args:
            user_id: The user.
            key: The device key.
            forget: If True, the record of the device is removed, too.
            event: The event about the revocation.
        """
        return await self._run_revoke(user_id, "one", key, forget, event)

    async def revoke_all(
        self, user_id: str, *, except_key: bytes | None, forget: bool, event: Event
    ) -> RemovedSessions:
        """Removes all sessions of a user, except the session on the device with the key
        `except_key`. The event is written only if there was a session to remove, or if the Redis
        key of the user's sessions was not a hash.

        Args:
            user_id: The user.
            except_key: The key of the device that stays signed in. None if all sessions are
                removed.
            forget: If True, the records of the devices are removed, too, but not the record of the
                device that stays signed in.
            event: The event about the revocation.
        """
        return await self._run_revoke(user_id, "all", except_key or b"", forget, event)

    async def _run_revoke(
        self, user_id: str, scope: str, key: bytes, forget: bool, event: Event
    ) -> RemovedSessions:
        args: list[str | bytes | int] = [
            *self._event_args(user_id),
            scope,
            key,
            "1" if forget else "0",
            self._event(event),
        ]
        keys = self._script_keys(user_id)
        removed, confirmed = await self._run(self._revoke, keys, args, durable=True)
        if removed:
            note(confirmed=confirmed)
        else:  # an earlier call may have removed the sessions: confirm its writes
            await self.confirm(user_id)
        return removed_sessions(removed)

    def _device(self, device: DeviceRecord) -> bytes:
        return codec.encode_device(device.kept(self.addresses))

    def _event(self, event: Event) -> bytes:
        return codec.encode_event(event.kept(self.addresses))

    async def _run(
        self, script: Script, keys: list[str], args: list[str | bytes | int], durable: bool
    ) -> tuple[list[Any], bool]:
        """Runs a script that writes. Returns the script's result, and True if enough replicas
        confirmed the writes. The second value is False if this method does not wait for replicas.
        The second value has no meaning if the script wrote nothing.
        """
        client, replicas = self._client, self.replicas
        if durable and replicas.count:
            return await self._writes.run(lambda: script.run_and_wait(client, keys, args, replicas))
        return await self._writes.run(lambda: script.run(client, keys, args)), False

    async def _run_mark(self, keys: list[str], args: list[str | bytes | int]) -> list[Any]:
        """Commits a mark in a batch with other marks, and returns the script's result. If the
        server refuses the mark in the batch, the mark is committed again outside of a batch. For
        example, a server that does not know the script then gets the script's text.
        """
        with driver_errors_translated():
            try:
                reply: list[Any] = await self._marks.run(self._commit.command(keys, args))
                return reply
            except ResponseError:
                pass
        return (await self._run(self._commit, keys, args, durable=False))[0]

    async def confirm(self, user_id: str) -> None:
        """Notes in `domain.durability` if enough replicas have all writes so far for a user. A call
        of the service uses this method if it has nothing to write, because an earlier call did the
        same work.
        """
        if not self.replicas.count:
            note(confirmed=False)
            return
        # WAIT counts the replicas that have the last write of the connection on which WAIT is sent.
        # So the connection first writes the probe key, which expires after a millisecond. A replica
        # that has the write of the probe key also has all earlier writes.
        probe = self._keys.probe_in(partition(user_id))
        write = ("SET", probe, "", "PX", 1)
        _, confirmed = await self._writes.run(
            lambda: run_and_wait(self._client, probe, write, self.replicas)
        )
        note(confirmed=confirmed)

    async def server_times(self) -> Sequence[datetime]:
        """Returns the present time by the clock of each primary that answers."""
        return await self._writes.run(self._ask_the_time)

    async def prove_writable(self) -> None:
        """Checks that at least one primary accepts writes like the writes of a sign-in. Raises
        StoreUnavailable if no primary does. A server refuses the writes of a sign-in if it is a
        replica, is full, can't write its files, or has too few replicas. One primary of a cluster
        is enough, because the users on this primary can sign in.
        """
        await self._writes.run(self._try_to_write)

    async def missing_permissions(self) -> Sequence[str]:
        """Returns the commands that sign-ins and revocations need, but that the Redis user may not
        run. Raises StoreUnavailable only if no primary answers.
        """
        return await self._rehearsal.missing()

    async def trim_events(self) -> None:
        """Removes the events that are older than `event_memory`, by the clock of Redis, in all
        partitions. A write of an event also removes old events, but only in the partition of the
        new event.
        """
        args = [self.event_memory // MILLISECOND]
        for number in range(PARTITIONS):
            keys = [self._keys.stream(number)]
            await self._writes.run(partial(self._trim.run, self._client, keys, args))

    async def close(self) -> None:
        """Waits for the replies to all commands that were sent, then closes the connections."""
        await self._marks.settled()
        await self._reads.drained()
        await self._writes.settled()
        await self._client.aclose()

    def _script_keys(self, user_id: str) -> list[str]:
        return [
            self._keys.sessions(user_id),
            self._keys.devices(user_id),
            self._keys.claims(user_id),
            self._keys.events(user_id),
        ]

    def _event_args(self, user_id: str) -> tuple[str | bytes | int, ...]:
        wake = (self._keys.wake_channel, partition(user_id))
        return (self.event_memory // MILLISECOND, MAX_EVENTS_PER_PARTITION, *wake)

    async def _read(self, kind: RecordKind, user_id: str, *command: str | bytes) -> Any:
        """Returns the reply to a read command. Returns OTHER_TYPE if the type of the key is not the
        type that the command reads.
        """
        return await self._unless_of_other_type(kind, user_id, self._asked(*command))

    def _asked(self, *command: str | bytes) -> Awaitable[Any]:
        return self._reads.ask(self._reads.question(*command))

    async def _ask_apart(self, commands: Sequence[Command]) -> Sequence[Any]:
        questions = [self._reads.question(*command) for command in commands]
        return await self._reads.ask_many(questions, apart=True)

    async def _fields_at(
        self, kind: RecordKind, user_id: str, name: str, key: bytes
    ) -> tuple[Any, int]:
        """Returns some fields of a user's hash, and the number of fields that were not read. The
        fields are the record of one device, and up to four records of other devices. Returns
        OTHER_TYPE and 0 if the key is not a hash.
        """
        read = self._asked
        replies = await self._unless_of_other_type(
            kind,
            user_id,
            asyncio.gather(
                read("HLEN", name),
                read("HGET", name, key),
                read("HRANDFIELD", name, OTHERS_READ, "WITHVALUES"),
            ),
        )
        if replies is OTHER_TYPE:
            return OTHER_TYPE, 0
        size, own, drawn = replies
        fields = {k: raw for k, raw in fields_of(drawn).items() if k != key}
        if own is not None:
            fields[key] = own
        return fields, max(size - len(fields), 0)

    async def _unless_of_other_type(
        self, kind: RecordKind, user_id: str, reply: Awaitable[Any]
    ) -> Any:
        with driver_errors_translated():
            try:
                return await reply
            except ResponseError as error:
                if code_of(error) != WRONG_TYPE:
                    raise
        self._reader.note_other_type(kind, user_id)
        return OTHER_TYPE

    async def _ask_the_time(self) -> Sequence[datetime]:
        if isinstance(self._client, Cluster):
            times = [*(await self._client.ask_each_primary("TIME")).values()]
        else:
            times = [await self._client.execute_command("TIME")]
        return [time_of(time) for time in times]

    async def _try_to_write(self) -> None:
        probes = {"": self._keys.probe}
        if isinstance(self._client, Cluster):
            await self._client.initialize()
            probes = self._client.one_for_each_primary(self._keys.probes())
        # With XX, SET writes a key only if the key exists. The probe keys exist for a millisecond
        # at most (see `confirm`), so usually nothing is written or sent to replicas.
        write = ("", "XX", "PX", 1)
        tries = (self._client.execute_command("SET", key, *write) for key in probes.values())
        refusals = await asyncio.gather(*tries, return_exceptions=True)
        if all(isinstance(refusal, BaseException) for refusal in refusals):
            raise next(refusal for refusal in refusals if isinstance(refusal, BaseException))


def _failure(error: Exception) -> StoreUnavailable | None:
    """Returns the error that a caller gets after the read of a session failed with `error`. Returns
    None if the read failed because the key is not a hash, so that the user has no sessions.
    """
    return None if code_of(error) == WRONG_TYPE else unavailable(error)


def _times_to_live(commit: Commit) -> tuple[int, int]:
    """Returns how long, in ms, Redis must keep the hash of sessions and the hash of devices after a
    commit. A value is 0 if the commit writes no records to the hash. The expiry of a hash only
    frees memory. The times in a session's record decide when the session ends.
    """
    ends = [record.ends_at for record in commit.set_sessions.values() if record is not None]
    sessions = max((end - commit.now for end in ends), default=timedelta(0))
    devices = max(DEVICE_MEMORY, sessions) if any(commit.set_devices.values()) else timedelta(0)
    return max(sessions // MILLISECOND, 0), devices // MILLISECOND
