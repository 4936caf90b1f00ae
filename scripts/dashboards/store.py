"""The dashboard of Redis, as the servers and relays see it."""

from __future__ import annotations

from scripts.dashboards.pages import Graph, Number, Page, Section

_RATE = "[$__rate_interval]"


def _round_trip(of: float) -> str:
    rate = f"rate(session_authority_redis_round_trip_seconds_bucket{{SELECTED}}{_RATE})"
    return f"histogram_quantile({of}, sum by (line, le) ({rate}))"


PAGE = Page(
    "store",
    "Session Authority: store",
    "Redis, as the servers and relays see it.",
    "session_authority_redis_batch_size_count",
    (
        Section(
            "Now",
            (
                Number(
                    "Redis",
                    "1 if each server has a Redis that answers and takes writes.",
                    "short",
                    "min(session_authority_store_up{SELECTED})",
                    red_below=1,
                ),
                Number(
                    "p99 of a round trip",
                    "One exchange in a hundred takes longer.",
                    "s",
                    'max(job:session_authority_redis_round_trip_seconds:p99_5m{job=~"$job"})',
                    red_from=0.05,
                ),
                Number(
                    "Errors",
                    "Within five minutes.",
                    "short",
                    "sum(increase(session_authority_redis_errors_total{SELECTED}[5m]))"
                    " or vector(0)",
                    red_from=1,
                ),
                Number(
                    "Clocks differ by",
                    "From 5 s on a server is NOT_SERVING.",
                    "s",
                    "max(abs(session_authority_store_clock_offset_seconds{SELECTED}))",
                    red_from=2,
                ),
                Number(
                    "Unreadable records",
                    "Read within a day. See `session-authority inspect`.",
                    "short",
                    "sum(increase(session_authority_unreadable_records_total{SELECTED}[1d]))"
                    " or vector(0)",
                    red_from=1,
                ),
            ),
        ),
        Section(
            "Exchanges",
            (
                Graph(
                    "Half of the round trips take",
                    "The median, of batches of reads and of commands.",
                    "s",
                    {"{{line}}": _round_trip(0.5)},
                ),
                Graph(
                    "99 of 100 round trips take at most",
                    "p99.",
                    "s",
                    {"{{line}}": _round_trip(0.99)},
                ),
                Graph(
                    "Round trips",
                    "Many validations share one.",
                    "ops",
                    {
                        "{{line}}": "sum by (line) (rate("
                        f"session_authority_redis_round_trip_seconds_count{{SELECTED}}{_RATE}))"
                    },
                ),
                Graph(
                    "Reads in a batch",
                    "The mean. More load makes batches larger, and each read cheaper.",
                    "short",
                    {
                        "reads": "sum(rate("
                        f"session_authority_redis_batch_size_sum{{SELECTED}}{_RATE})) / sum(rate("
                        f"session_authority_redis_batch_size_count{{SELECTED}}{_RATE}))"
                    },
                ),
                Graph(
                    "Waiting",
                    "What waits for a reply or for a connection.",
                    "short",
                    {
                        "{{instance}}": "sum by (instance) ("
                        "session_authority_redis_waiting{SELECTED})"
                    },
                ),
                Graph(
                    "Errors",
                    "By kind.",
                    "ops",
                    {
                        "{{kind}}": "sum by (kind) ("
                        f"rate(session_authority_redis_errors_total{{SELECTED}}{_RATE}))"
                    },
                ),
            ),
        ),
        Section(
            "What happens to records",
            (
                Graph(
                    "Decided again",
                    "Commits that found something changed. A few are normal.",
                    "ops",
                    {
                        "conflicts": "sum(rate("
                        f"session_authority_commit_conflicts_total{{SELECTED}}{_RATE}))"
                    },
                ),
                Graph(
                    "Marks and last-seen times dropped",
                    "Harmless, up to a point.",
                    "ops",
                    {
                        "dropped": "sum(rate("
                        f"session_authority_best_effort_writes_dropped_total{{SELECTED}}{_RATE}))"
                    },
                ),
                Graph(
                    "Records that a token moved forward",
                    "Within five minutes: Redis had lost a renewal, in a failover or a restore.",
                    "short",
                    {
                        "moved": "sum(increase("
                        "session_authority_records_forwarded_total{SELECTED}[5m]))"
                    },
                ),
                Graph(
                    "Clocks",
                    "How far the clock of a server and that of Redis are apart.",
                    "s",
                    {
                        "{{instance}}": "max by (instance) (abs("
                        "session_authority_store_clock_offset_seconds{SELECTED}))"
                    },
                ),
                Graph(
                    "Redis by server",
                    "0 while a server has no good Redis.",
                    "short",
                    {"{{instance}}": "min by (instance) (session_authority_store_up{SELECTED})"},
                ),
            ),
        ),
    ),
)
