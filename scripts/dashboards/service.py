"""The dashboard of the servers: what callers see, what happens to sessions, and which resources run
short.
"""

from __future__ import annotations

from scripts.dashboards.pages import Graph, Number, Page, Section

_OURS = 'SELECTED, grpc_service="session_authority.v1.SessionAuthorityService"'
_FAILED = 'grpc_code=~"Unavailable|Internal|Unknown|DataLoss|DeadlineExceeded"'


def _quantile(of: float, name: str, by: str, selected: str = "SELECTED") -> str:
    rate = f"rate({name}_bucket{{{selected}}}[$__rate_interval])"
    return f"histogram_quantile({of}, sum by ({by}, le) ({rate}))"


def _rate(name: str, by: str, selected: str = "SELECTED") -> dict[str, str]:
    rate = f"rate({name}{{{selected}}}[$__rate_interval])"
    return {f"{{{{{by}}}}}": f"sum by ({by}) ({rate})"}


def _calls_in_seconds(of: float) -> str:
    return _quantile(
        of, "grpc_server_handling_seconds", "grpc_method", f'{_OURS}, grpc_type="unary"'
    )


_NOW = Section(
    "Now",
    (
        Number(
            "Servers", "Servers that Prometheus reaches.", "short", "sum(up{SELECTED})", red_below=1
        ),
        Number(
            "Redis",
            "1 if each server has a Redis that answers and takes writes.",
            "short",
            "min(session_authority_store_up{SELECTED})",
            red_below=1,
        ),
        Number(
            "Calls",
            "Calls of the contract that ended, a second.",
            "reqps",
            f"sum(rate(grpc_server_handled_total{{{_OURS}}}[$__rate_interval]))",
        ),
        Number(
            "Failed",
            "Share of the calls of the last hour that failed by the service's fault. The aim is"
            " 0.1 %.",
            "percentunit",
            'max(job:session_authority_call_errors:ratio_rate1h{job=~"$job"})',
            red_from=0.001,
        ),
        Number(
            "p99 of validations",
            "One validation in a hundred takes longer.",
            "s",
            "max(job_grpc_method:session_authority_call_seconds:p99_5m"
            '{job=~"$job", grpc_method="ValidateSession"})',
            red_from=0.1,
        ),
        Number(
            "Alarms",
            "Replays of the last hour. By default, each signs a user out.",
            "short",
            "sum(increase(session_authority_replays_total{SELECTED}[1h]))",
        ),
    ),
)
_CALLS = Section(
    "Calls",
    (
        Graph(
            "Calls by method",
            "A batch is one call.",
            "reqps",
            _rate("grpc_server_handled_total", "grpc_method", _OURS),
            stacked=True,
        ),
        Graph(
            "Calls that failed",
            "By the service's fault or that of its Redis.",
            "reqps",
            _rate("grpc_server_handled_total", "grpc_code", f"{_OURS}, {_FAILED}"),
            stacked=True,
        ),
        Graph(
            "Calls that the caller got wrong",
            "All other codes than OK. They spend no error budget.",
            "reqps",
            _rate(
                "grpc_server_handled_total",
                "grpc_code",
                f'{_OURS}, {_FAILED.replace("=~", "!~")}, grpc_code!="OK"',
            ),
        ),
        Graph(
            "Half of the calls take",
            "The median.",
            "s",
            {"{{grpc_method}}": _calls_in_seconds(0.5)},
        ),
        Graph(
            "99 of 100 calls take at most",
            "p99.",
            "s",
            {"{{grpc_method}}": _calls_in_seconds(0.99)},
        ),
        Graph(
            "Refused before they were carried out",
            "By the reason.",
            "reqps",
            _rate("session_authority_calls_refused_total", "reason"),
        ),
        Graph(
            "Calls by caller",
            "Callers of the access policy; all others are `unknown`.",
            "reqps",
            _rate("session_authority_caller_calls_total", "caller"),
            stacked=True,
        ),
    ),
)
_SESSIONS = Section(
    "Sessions",
    (
        Graph(
            "Verdicts",
            "What presented tokens are worth.",
            "ops",
            _rate("session_authority_verdicts_total", "status"),
            stacked=True,
        ),
        Graph(
            "Sign-ins", "By outcome.", "ops", _rate("session_authority_sign_ins_total", "outcome")
        ),
        Graph(
            "Renewals", "By outcome.", "ops", _rate("session_authority_renewals_total", "outcome")
        ),
        Graph(
            "Revocations", "By kind.", "ops", _rate("session_authority_revocations_total", "kind")
        ),
        Graph(
            "Replays",
            "Within five minutes, by cause.",
            "short",
            {
                "{{cause}}": "sum by (cause) ("
                "increase(session_authority_replays_total{SELECTED}[5m]))"
            },
        ),
        Graph(
            "Watches",
            "Watches of events that are under way, and those that ended within five minutes because"
            " something may have been missed.",
            "short",
            {
                "under way": "sum(session_authority_watchers{SELECTED})",
                "expired": "sum(increase(session_authority_watches_expired_total{SELECTED}[5m]))",
            },
        ),
        Graph(
            "From an event to its watchers",
            "p99 of the time from an event's commit to its sending.",
            "s",
            {"{{instance}}": _quantile(0.99, "session_authority_watch_lag_seconds", "instance")},
        ),
        Graph(
            "Validations answered with a kept answer",
            "Of all verdicts. A kept answer costs less CPU time.",
            "percentunit",
            {
                "kept": "sum("
                "rate(session_authority_kept_answers_total{SELECTED}[$__rate_interval]))"
                " / sum(rate(session_authority_verdicts_total{SELECTED}[$__rate_interval]))"
            },
        ),
    ),
)
_ROOM = Section(
    "Room",
    (
        Graph(
            "Calls under way",
            "Of those that a process accepts; at 1 it refuses.",
            "percentunit",
            {
                "{{instance}}": "max by (instance) (session_authority_calls_in_flight{SELECTED}"
                " / session_authority_calls_in_flight_limit{SELECTED})"
            },
        ),
        Graph(
            "Connections",
            "Of those that a port may have.",
            "percentunit",
            {
                "{{instance}} {{port}}": "max by (instance, port) ("
                "session_authority_connections{SELECTED}"
                " / session_authority_connections_limit{SELECTED})"
            },
        ),
        Graph(
            "File descriptors",
            "Of those that a process may have.",
            "percentunit",
            {
                "{{instance}}": "max by (instance) (process_open_fds{SELECTED}"
                " / process_max_fds{SELECTED})"
            },
        ),
        Graph(
            "The event loop is late by",
            "p99. From 0.1 s on, its core is full.",
            "s",
            {
                "{{instance}}": _quantile(
                    0.99, "session_authority_event_loop_lag_seconds", "instance"
                )
            },
        ),
        Graph(
            "Processor time",
            "Cores in use; one for each worker is all that there is.",
            "short",
            {
                "{{instance}}": "sum by (instance) ("
                "rate(process_cpu_seconds_total{SELECTED}[$__rate_interval]))"
            },
        ),
        Graph(
            "Memory",
            "Resident, of all workers.",
            "bytes",
            {"{{instance}}": "sum by (instance) (process_resident_memory_bytes{SELECTED})"},
        ),
    ),
)
_FILES = Section(
    "Keys, certificates and versions",
    (
        Number(
            "Certificate ends in",
            "The certificate of a server that ends first.",
            "s",
            "min(session_authority_certificate_end_seconds{SELECTED} > 0) - time()",
            red_below=14 * 86400,
        ),
        Number(
            "Age of the signing key",
            "It is to be rotated every 90 days.",
            "s",
            "time() - max(session_authority_signing_key_created_timestamp_seconds{SELECTED} > 0)",
            red_from=100 * 86400,
        ),
        Number(
            "Broken files",
            "Files that were changed and can't be used.",
            "short",
            "sum(session_authority_files_broken{SELECTED})",
            red_from=1,
        ),
        Number(
            "Youngest process",
            "How long ago a process was started last.",
            "s",
            "time() - max(process_start_time_seconds{SELECTED})",
        ),
        Graph(
            "Keys",
            "By state, of the server that knows most.",
            "short",
            {"{{state}}": "max by (state) (session_authority_signing_keys{SELECTED})"},
        ),
        Graph(
            "Servers by version",
            "Two versions stand side by side during an upgrade.",
            "short",
            {"{{version}}": "count by (version) (session_authority_build_info{SELECTED})"},
            stacked=True,
        ),
    ),
)

PAGE = Page(
    "service",
    "Session Authority: service",
    "What callers see, what becomes of sessions, and what runs short.",
    "grpc_server_started_total",
    (_NOW, _CALLS, _SESSIONS, _ROOM, _FILES),
)
