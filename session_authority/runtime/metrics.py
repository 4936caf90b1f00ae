"""Defines the metrics of the service. Each label value is a member of a fixed set, a version of
software, or the name of a caller in the access policy. No user, device or token is a label value.
"""

from __future__ import annotations

from session_authority.domain.refusals import REASONS
from session_authority.domain.verdicts import ReplayCause, SessionStatus
from session_authority.runtime.call_metrics import CallMetrics
from session_authority.runtime.process_metrics import ProcessMetrics

_ACTIVE_STATUS, _ACTIVE = SessionStatus.ACTIVE, (SessionStatus.ACTIVE.value,)
_WATCH_LAG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIGN_INS = ("new_device", "known_device", "repeated", "device_limit")
REVOCATIONS = ("device", "all", "all_but_one", "evicted", "replay")


class Metrics(ProcessMetrics):
    """The metrics of one process of the service."""

    def __init__(self) -> None:
        super().__init__()
        self._add_sessions()
        self._add_store()
        self._add_files()
        self._add_watches()
        self._add_calls()

    def _add_sessions(self) -> None:
        self._verdicts = self.counter(
            "verdicts", "Tokens judged, by what they were worth.", ["status"]
        )
        self._by_status = {status: self._verdicts.begin(status.value) for status in SessionStatus}
        self._kept_answers = self.counter(
            "kept_answers",
            "Validations answered with a kept answer, after Redis showed that the session's record"
            " is the same.",
        )
        self._kept_answers.begin()
        self._renewals = self.counter(
            "renewals", "Renewals, by what the presented token was worth.", ["outcome"]
        )
        for status in SessionStatus:
            self._renewals.begin(status.value)
        self._sign_ins = self.counter(
            "sign_ins",
            "Sign-ins: on a new device, a known one, repeated with the same request ID, or refused"
            " at the limit of devices.",
            ["outcome"],
        )
        self._by_sign_in = {outcome: self._sign_ins.begin(outcome) for outcome in SIGN_INS}
        self._revocations = self.counter(
            "revocations",
            "Revocations: of a device, of all, of all but one; of a device that had to make room;"
            " and those that a replay caused.",
            ["kind"],
        )
        self._by_revocation = {kind: self._revocations.begin(kind) for kind in REVOCATIONS}
        replays = self.rare("replays", "Replays acted upon, by cause.", ["cause"])
        self._replays = {cause: replays.labels(cause.value) for cause in ReplayCause}
        self.forwards = self.rare(
            "records_forwarded",
            "Session records that a token moved forward, because the store had lost writes.",
        )
        self.conflicts = self.rare(
            "commit_conflicts",
            "Commits that found something changed, and were decided again.",
        )
        self.best_effort_writes_dropped = self.rare(
            "best_effort_writes_dropped",
            "Marks and touches not written, because too many were waiting or the store was away."
            " Harmless.",
        )

    def _add_store(self) -> None:
        self.unreadable_records = self.rare(
            "unreadable_records",
            "Reads of a record in Redis that could not be read, by its kind: session, device,"
            " claims, request. See `session-authority inspect`.",
            ["kind"],
        )
        self.store_up = self.gauge(
            "store_up", "1 if Redis answered the last probe and its clock agrees."
        )
        self.store_clock_offset = self.gauge(
            "store_clock_offset_seconds",
            "How far this process's clock is ahead of the primary's that differs most; negative if"
            " it is behind.",
        )

    def _add_files(self) -> None:
        self.files_broken = self.gauge(
            "files_broken",
            "1 while changed files of this kind (keys, access, certificates, geoip_database) can't"
            " be used, and the old ones still are.",
            ["what"],
        )
        self.certificate_end = self.gauge(
            "certificate_end_seconds",
            "When the service's TLS certificate ends, in seconds since 1970; 0 without one.",
        )
        self.geoip_built = self.gauge(
            "geoip_database_built_seconds",
            "When the database of places was made, in seconds since 1970; 0 without one.",
        )
        self.signing_keys = self.gauge(
            "signing_keys",
            "Keys, by their state: published, signing, verifying, revoked.",
            ["state"],
        )
        self.signing_key_created = self.gauge(
            "signing_key_created_timestamp_seconds",
            "When the key that signs was made, in seconds since 1970; 0 while none signs.",
        )

    def _add_watches(self) -> None:
        self.watchers = self.gauge("watchers", "Watches of events under way.")
        self.watches_expired = self.rare(
            "watches_expired",
            "Watches ended because something may have been missed: too slow, or the store's history"
            " changed.",
        )
        self.watch_lag = self.durations(
            "watch_lag_seconds",
            "Time from an event's commit, by Redis' clock, until a message with it was handed to"
            " the connection of a watcher.",
            _WATCH_LAG_SECONDS,
        ).of()

    def _add_calls(self) -> None:
        self.standing_acceptor = self.gauge(
            "standing_acceptor",
            "1 if standing tasks accept the calls of the busiest methods, 0 if grpc.aio's own loop"
            " accepts all.",
        )
        self.calls = CallMetrics(self.registry)
        self._refused = self.counter(
            "calls_refused",
            "Calls refused before they were carried out, by the reason.",
            ["reason"],
        )
        self._by_refusal = {reason: self._refused.begin(reason) for reason in REASONS}
        self.calls_in_flight = self.gauge(
            "calls_in_flight",
            "Places that unary calls under way take; a batch takes one for each 4 KiB.",
        )
        self.calls_in_flight_limit = self.gauge(
            "calls_in_flight_limit", "Places that there are for unary calls under way."
        )
        self.connections = self.gauge(
            "connections", "Connections of callers, by the port: main, bearer, health.", ["port"]
        )
        self.connections_limit = self.gauge(
            "connections_limit", "Connections that a port may have.", ["port"]
        )

    def verdict(self, status: SessionStatus) -> None:
        """Counts a presented token, by the status in the verdict on this token."""
        # For ACTIVE, which is the most frequent status, no Enum is hashed. Hashing an Enum would
        # cost more than the rest of this method.
        key = _ACTIVE if status is _ACTIVE_STATUS else self._by_status[status]
        self._verdicts.counts[key] += 1

    def renewed(self, status: SessionStatus) -> None:
        """Counts a renewal, and also the verdict on the presented token. Both are counted under the
        status of the presented token.
        """
        self.verdict(status)
        self._renewals.counts[self._by_status[status]] += 1

    def signed_in(self, outcome: str) -> None:
        """Counts a sign-in, by its outcome (one of SIGN_INS)."""
        self._sign_ins.counts[self._by_sign_in[outcome]] += 1

    def revoked(self, kind: str, number: int = 1) -> None:
        """Counts revocations, by their kind (one of REVOCATIONS)."""
        self._revocations.counts[self._by_revocation[kind]] += number

    def kept(self, number: int) -> None:
        """Counts `number` validations that were answered from the cache of answers. Each validation
        that the cache answers is also counted as a verdict ACTIVE, because the cache contains only
        answers to active tokens.
        """
        self._verdicts.counts[_ACTIVE] += number
        self._kept_answers.counts[()] += number

    def replay(self, cause: ReplayCause) -> None:
        """Counts a replay for which an event was written, by the cause of the replay."""
        self._replays[cause].inc()

    def refused(self, reason: str | None) -> None:
        """Counts a refused call, by the reason (one of REASONS). Counts nothing if the reason is
        None, which means that the call was not refused.
        """
        if reason is not None:
            self._refused.counts[self._by_refusal[reason]] += 1
