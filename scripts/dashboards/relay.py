"""The dashboard of the relays: events that wait, were delivered, or were given up."""

from __future__ import annotations

from scripts.dashboards.pages import Graph, Number, Page, Section


def _of_endpoints(name: str) -> str:
    """All relays count the same events, so the highest count is the right one."""
    return f"max by (endpoint) ({name}{{SELECTED}})"


PAGE = Page(
    "relay",
    "Session Authority: relay",
    "Delivery of events to HTTP endpoints.",
    "session_authority_relay_backlog_events",
    (
        Section(
            "Now",
            (
                Number(
                    "Relays",
                    "Relays that Prometheus reaches.",
                    "short",
                    "sum(up{SELECTED})",
                    red_below=1,
                ),
                Number(
                    "Oldest event that waits",
                    "Events are lost when they are as old as EVENT_MEMORY.",
                    "s",
                    "max(session_authority_relay_oldest_undelivered_seconds{SELECTED})",
                    red_from=600,
                ),
                Number(
                    "Given up",
                    "Dead letters, which wait for `relay dead retry`.",
                    "short",
                    f"sum({_of_endpoints('session_authority_relay_dead_letters')})",
                    red_from=1,
                ),
            ),
        ),
        Section(
            "Endpoints",
            (
                Graph(
                    "Events that wait",
                    "By endpoint.",
                    "short",
                    {"{{endpoint}}": _of_endpoints("session_authority_relay_backlog_events")},
                ),
                Graph(
                    "Age of the oldest",
                    "By endpoint.",
                    "s",
                    {
                        "{{endpoint}}": _of_endpoints(
                            "session_authority_relay_oldest_undelivered_seconds"
                        )
                    },
                ),
                Graph(
                    "Attempts",
                    "By endpoint and outcome.",
                    "ops",
                    {
                        "{{endpoint}} {{outcome}}": "sum by (endpoint, outcome) ("
                        "rate(session_authority_deliveries_total{SELECTED}[$__rate_interval]))"
                    },
                ),
                Graph(
                    "Dead letters",
                    "By endpoint.",
                    "short",
                    {"{{endpoint}}": _of_endpoints("session_authority_relay_dead_letters")},
                ),
            ),
        ),
        Section(
            "Processes",
            (
                Graph(
                    "Processor time",
                    "Cores in use.",
                    "short",
                    {
                        "{{instance}}": "sum by (instance) ("
                        "rate(process_cpu_seconds_total{SELECTED}[$__rate_interval]))"
                    },
                ),
                Graph(
                    "Memory",
                    "Resident.",
                    "bytes",
                    {"{{instance}}": "sum by (instance) (process_resident_memory_bytes{SELECTED})"},
                ),
            ),
        ),
    ),
)
