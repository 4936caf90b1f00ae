"""The dashboard of services that use the Python client and export its metrics."""

from __future__ import annotations

from scripts.dashboards.pages import Graph, Number, Page, Section

_NAME = "session_authority_client"
_RATE = "[$__rate_interval]"


def _rate(name: str, by: str) -> dict[str, str]:
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({_NAME}_{name}{{SELECTED}}{_RATE}))"}


def _seconds(of: float) -> dict[str, str]:
    rate = f"rate({_NAME}_call_seconds_bucket{{SELECTED}}{_RATE})"
    return {"{{method}}": f"histogram_quantile({of}, sum by (method, le) ({rate}))"}


_HITS = f"sum(rate({_NAME}_cache_hits_total{{SELECTED}}{_RATE}))"
_MISSES = f"sum(rate({_NAME}_cache_misses_total{{SELECTED}}{_RATE}))"

PAGE = Page(
    "clients",
    "Session Authority: clients",
    "What services that use the Python client see of the service.",
    f"{_NAME}_in_flight",
    (
        Section(
            "Now",
            (
                Number(
                    "Failed",
                    "Share of the calls of the last five minutes that did not end with OK.",
                    "percentunit",
                    f'(sum(rate({_NAME}_calls_total{{SELECTED, code!="OK"}}[5m])) or vector(0))'
                    f" / sum(rate({_NAME}_calls_total{{SELECTED}}[5m]))",
                    red_from=0.01,
                ),
                Number(
                    "Answered by the near cache",
                    "Of all validations.",
                    "percentunit",
                    f"{_HITS} / ({_HITS} + {_MISSES})",
                ),
                Number(
                    "Age of the watch's last word",
                    "The cache answers nothing when it is over `max_silence`.",
                    "s",
                    f"max({_NAME}_cache_staleness_seconds{{SELECTED}})",
                    red_from=15,
                ),
            ),
        ),
        Section(
            "Calls",
            (
                Graph(
                    "Calls by method",
                    "A batch is one call.",
                    "reqps",
                    _rate("calls_total", "method"),
                    stacked=True,
                ),
                Graph(
                    "Calls by code",
                    "After the last try.",
                    "reqps",
                    _rate("calls_total", "code"),
                    stacked=True,
                ),
                Graph("Tried again", "By method.", "reqps", _rate("retries_total", "method")),
                Graph("Half of the calls take", "The median.", "s", _seconds(0.5)),
                Graph("99 of 100 calls take at most", "p99.", "s", _seconds(0.99)),
                Graph(
                    "Under way",
                    "Calls, by instance.",
                    "short",
                    {"{{instance}}": f"sum by (instance) ({_NAME}_in_flight{{SELECTED}})"},
                ),
            ),
        ),
        Section(
            "Batches and cache",
            (
                Graph(
                    "Validations in a batch",
                    "The mean.",
                    "short",
                    {
                        "validations": f"sum(rate({_NAME}_batch_size_sum{{SELECTED}}{_RATE}))"
                        f" / sum(rate({_NAME}_batch_size_count{{SELECTED}}{_RATE}))"
                    },
                ),
                Graph(
                    "Cache",
                    "Validations that it answered, and those that it could not.",
                    "ops",
                    {"hits": _HITS, "misses": _MISSES},
                    stacked=True,
                ),
                Graph(
                    "Answers dropped from the cache",
                    "By the reason.",
                    "ops",
                    _rate("cache_dropped_total", "reason"),
                ),
            ),
        ),
    ),
)
