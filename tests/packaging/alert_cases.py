"""Whether each alert fires on given series: rows for `promtool test rules`.

A series is written in the notation of promtool: `1x5` is 1 six times, and `0+3x5` is 0 and then 3
more each minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SERVER = 'job="session-authority",instance="a"'
_OTHER = 'job="session-authority",instance="b"'
_POD = 'job="team/session-authority",instance="b"'
_RELAY = 'job="session-authority-relay",instance="r"'
_CALLS = f'{_SERVER},grpc_service="session_authority.v1.SessionAuthorityService"'
_DAY = 86_400

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """The state of an alert for given series."""

    alert: str
    name: str
    series: Series
    fires: dict[str, bool]
    """Whether the alert fires, by the time at which it is evaluated."""
    interval: str = "1m"
    """The time between the values of a series, and between the evaluations of rules."""

    def as_promtool(self) -> dict[str, Any]:
        """The case in the form that promtool reads."""
        firing = f'count(ALERTS{{alertname="SessionAuthority{self.alert}",alertstate="firing"}})'
        return {
            "name": f"{self.alert}: {self.name}",
            "interval": self.interval,
            "input_series": [{"series": of, "values": is_} for of, is_ in self.series.items()],
            "promql_expr_test": [
                {
                    "expr": firing,
                    "eval_time": at,
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
                for at, fires in self.fires.items()
            ],
        }


def _gauges(labels: str, **values: str) -> Series:
    return {f"{name}{{{labels}}}": value for name, value in values.items()}


def _histogram(
    name: str, labels: str, fast: int, slow: int, bounds: tuple[str, str] = ("0.01", "0.25")
) -> Series:
    """The series of a histogram with this many observations a minute in the first bucket, and this
    many in the second.
    """
    counts = zip((*bounds, "+Inf"), (fast, fast + slow, fast + slow), strict=True)
    return {f'{name}_bucket{{{labels},le="{le}"}}': f"0+{count}x60" for le, count in counts}


def _calls(**codes: str) -> Series:
    labels = f'grpc_server_handled_total{{{_CALLS},grpc_method="ValidateSession"'
    return {f'{labels},grpc_code="{code}"}}': value for code, value in codes.items()}


def _call_seconds(kind: str, fast: int, slow: int) -> Series:
    labels = f'{_CALLS},grpc_method="M",grpc_type="{kind}"'
    return _histogram("grpc_server_handling_seconds", labels, fast, slow)


def _replays(values: str) -> Series:
    return {f'session_authority_replays_total{{{_SERVER},cause="any"}}': values}


def _refused(reason: str) -> Series:
    labels = f'{_SERVER},reason="{reason}"'
    return _gauges(labels, session_authority_calls_refused_total="0+600x60")


def _used(used: str, limit: str) -> tuple[Series, Series]:
    return _gauges(_SERVER, **{used: "90x60", limit: "100x60"}), _gauges(
        _SERVER, **{used: "50x60", limit: "100x60"}
    )


_STARTS = _gauges(_SERVER, process_start_time_seconds="0x10 1x10 2x10 3x10 4x10 5x10")
_ROUND_TRIPS = "session_authority_redis_round_trip_seconds"
_LAG = "session_authority_event_loop_lag_seconds"
_WATCH = "session_authority_watch_lag_seconds"
_IN_USE = {
    "CallsInFlight": _used(
        "session_authority_calls_in_flight", "session_authority_calls_in_flight_limit"
    ),
    "Connections": _used("session_authority_connections", "session_authority_connections_limit"),
    "Descriptors": _used("process_open_fds", "process_max_fds"),
}


def _certificate(days_left: int) -> Series:
    return _gauges(
        _SERVER, session_authority_certificate_end_seconds=f"{days_left * _DAY + 1800}x60"
    )


def _key_made(at: int) -> Series:
    return _gauges(_SERVER, session_authority_signing_key_created_timestamp_seconds=f"{at}x110")


def _kinds(name: str, label: str, **values: str) -> Series:
    return {f'{name}{{{_SERVER},{label}="{kind}"}}': value for kind, value in values.items()}


def _endpoints(name: str, **values: str) -> Series:
    return {f'{name}{{{_RELAY},endpoint="{one}"}}': value for one, value in values.items()}


CASES = (
    Case(
        "AllServersDown",
        "the last one goes",
        _gauges(_SERVER, up="1x9 0x50") | _gauges(_POD, up="0x60") | _gauges(_RELAY, up="1x60"),
        {"9m": False, "10m": False, "11m": True},
    ),
    Case(
        "AllServersDown", "no server is known", {'up{job="x"}': "1x60"}, {"0m": False, "2m": True}
    ),
    Case(
        "ServerDown",
        "one of two goes",
        _gauges(_SERVER, up="1x60") | _gauges(_POD, up="1x4 0x56"),
        {"9m": False, "11m": True},
    ),
    Case("ServerDown", "a relay goes", _gauges(_RELAY, up="0x60"), {"30m": False}),
    Case("Restarts", "one every 11 minutes", _STARTS, {"30m": False, "50m": True}),
    Case(
        "Restarts",
        "an upgrade",
        _gauges(_SERVER, process_start_time_seconds="0x30 1x30")
        | _gauges('job="other",instance="c"', process_start_time_seconds="0+1x60"),
        {"59m": False},
    ),
    Case(
        "ErrorBudgetFast",
        "two in a hundred fail",
        _calls(OK="0+980x60", Unavailable="0+20x60"),
        {"2m": False, "10m": True},
    ),
    Case("ErrorBudgetFast", "all fail", _calls(Internal="0+90x60"), {"10m": True}),
    Case(
        "ErrorBudgetFast",
        "one in a hundred fails, for hours",
        _calls(OK="0+99x400", Unavailable="0+1x400"),
        {"390m": True},
    ),
    Case(
        "ErrorBudgetFast",
        "a burst is over",
        _calls(OK="0+980x60", Unavailable="0+20x10 200x50"),
        {"8m": True, "50m": False},
    ),
    Case(
        "ErrorBudgetFast",
        "callers make mistakes",
        _calls(OK="0+10x60", InvalidArgument="0+90x60", PermissionDenied="0+9x60"),
        {"30m": False},
    ),
    Case(
        "ErrorBudgetSlow",
        "four in a thousand fail",
        _calls(OK="0+996x60", DeadlineExceeded="0+4x60"),
        {"10m": False, "40m": True},
    ),
    Case(
        "ErrorBudgetSlow",
        "one in ten thousand fails",
        _calls(OK="0+9999x60", Unavailable="0+1x60"),
        {"40m": False},
    ),
    Case(
        "SlowCalls", "two in a hundred", _call_seconds("unary", 98, 2), {"9m": False, "20m": True}
    ),
    Case("SlowCalls", "two in a thousand", _call_seconds("unary", 998, 2), {"30m": False}),
    Case("SlowCalls", "watches last", _call_seconds("server_stream", 0, 9), {"30m": False}),
    Case(
        "StoreDown",
        "one server loses Redis for 20 minutes",
        _gauges(_SERVER, session_authority_store_up="1x5 0x20 1x30")
        | _gauges(_OTHER, session_authority_store_up="1x60"),
        {"6m": False, "8m": True, "30m": False},
    ),
    Case(
        "StoreSlow",
        "two round trips in a hundred",
        _histogram(_ROUND_TRIPS, f'{_SERVER},line="read"', 98, 2),
        {"9m": False, "20m": True},
    ),
    Case(
        "StoreSlow",
        "two round trips in a thousand",
        _histogram(_ROUND_TRIPS, f'{_SERVER},line="read"', 998, 2),
        {"30m": False},
    ),
    Case(
        "ClockOffset",
        "3 s behind",
        _gauges(_SERVER, session_authority_store_clock_offset_seconds="-3x60"),
        {"4m": False, "6m": True},
    ),
    Case(
        "ClockOffset",
        "1 s ahead",
        _gauges(_SERVER, session_authority_store_clock_offset_seconds="1x60"),
        {"30m": False},
    ),
    Case(
        "UnreadableRecords",
        "one more",
        _kinds(
            "session_authority_unreadable_records_total",
            "kind",
            session="_x2 0x3 1x90",  # From the start of a server on.
            device="7x95",
        ),
        {"4m": False, "10m": True, "80m": False},
    ),
    Case(
        "WritesDropped",
        "ten a second",
        _gauges(_SERVER, session_authority_best_effort_writes_dropped_total="0+600x60"),
        {"10m": False, "20m": True},
    ),
    Case(
        "WritesDropped",
        "six a minute",
        _gauges(_SERVER, session_authority_best_effort_writes_dropped_total="0+6x60"),
        {"40m": False},
    ),
    Case("ReplayBurst", "after a quiet day", _replays("0x60 0+5x60"), {"60m": False, "70m": True}),
    Case("ReplayBurst", "as many as for hours", _replays("0+5x360"), {"350m": False}),
    Case("ReplayBurst", "a few", _replays("0x60 0+0.5x60"), {"90m": False}),
    *(
        Case(name, "nine of ten in use", many, {"4m": False, "6m": True})
        for name, (many, _) in _IN_USE.items()
    ),
    *(Case(name, "half in use", few, {"30m": False}) for name, (_, few) in _IN_USE.items()),
    Case("CallsRefused", "overload", _refused("too_many_calls"), {"3m": False, "10m": True}),
    Case("CallsRefused", "one caller", _refused("caller_share"), {"3m": False, "10m": True}),
    Case("CallsRefused", "strangers", _refused("caller_unknown"), {"30m": False}),
    Case("EventLoopLag", "late", _histogram(_LAG, _SERVER, 90, 9), {"4m": False, "10m": True}),
    Case("EventLoopLag", "in time", _histogram(_LAG, _SERVER, 999, 1), {"30m": False}),
    Case(
        "FilesBroken",
        "a policy, until it is mended",
        _kinds("session_authority_files_broken", "what", access="0x3 1x20 0x30", keys="0x60"),
        {"8m": False, "10m": True, "30m": False},
    ),
    Case("CertificateEnds", "in a week", _certificate(7), {"1m": True}),
    Case("CertificateEnds", "in three weeks", _certificate(21), {"1m": False}),
    Case(
        "CertificateEnds",
        "there is none",
        _gauges(_SERVER, session_authority_certificate_end_seconds="0x60"),
        {"1m": False},
    ),
    Case("CertificateEndsSoon", "in a day", _certificate(1), {"1m": True}),
    Case("CertificateEndsSoon", "in a week", _certificate(7), {"1m": False}),
    Case("SigningKeyOld", "101 days", _key_made(1), {"2376h": False, "2448h": True}, interval="1d"),
    Case("SigningKeyOld", "there is none", _key_made(0), {"2448h": False}, interval="1d"),
    Case(
        "WatchesExpire",
        "ten at once",
        _gauges(_SERVER, session_authority_watches_expired_total="0x5 10x60"),
        {"4m": False, "10m": True, "30m": False},
    ),
    Case(
        "WatchLag",
        "late",
        _histogram(_WATCH, _SERVER, 90, 9, ("1", "10")),
        {"9m": False, "20m": True},
    ),
    Case("WatchLag", "in time", _histogram(_WATCH, _SERVER, 999, 1, ("1", "10")), {"30m": False}),
    Case(
        "RelayDown",
        "for 20 minutes",
        _gauges(_RELAY, up="1x3 0x20 1x20") | _gauges(_SERVER, up="0x60"),
        {"7m": False, "10m": True, "30m": False},
    ),
    Case(
        "RelayBacklogOld",
        "one endpoint of two",
        _endpoints(
            "session_authority_relay_oldest_undelivered_seconds", mail="0+60x60", log="5x60"
        ),
        {"12m": False, "20m": True},
    ),
    Case(
        "DeadLetters",
        "until they are sent again",
        _endpoints("session_authority_relay_dead_letters", mail="0x5 1x20 0x20"),
        {"4m": False, "10m": True, "40m": False},
    ),
)
