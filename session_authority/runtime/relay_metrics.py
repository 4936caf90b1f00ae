"""Defines the metrics of a relay. Each label value is the name of an endpoint, a version of
software, or a member of a fixed set.
"""

from __future__ import annotations

from session_authority.runtime.process_metrics import ProcessMetrics


class RelayMetrics(ProcessMetrics):
    """The metrics of one relay process."""

    def __init__(self) -> None:
        super().__init__()
        self.deliveries = self.rare(
            "deliveries",
            "Attempts to deliver an event to an endpoint: delivered, failed; and events that were"
            " given up.",
            ["endpoint", "outcome"],
        )
        self.backlog = self.gauge(
            "relay_backlog_events",
            "Events that an endpoint has not got yet, in all partitions, whichever relay delivers"
            " them. None while Redis does not answer.",
            ["endpoint"],
        )
        self.oldest = self.gauge(
            "relay_oldest_undelivered_seconds",
            "Age of the oldest event that an endpoint has not got yet; 0 if it has all.",
            ["endpoint"],
        )
        self.dead_letters = self.gauge(
            "relay_dead_letters",
            "Events that were given up and lie among the endpoint's dead letters.",
            ["endpoint"],
        )

    def forget_backlogs(self) -> None:
        """Removes the values of the gauges for undelivered events and dead letters. The relay calls
        this method while it can't read the present values from Redis.
        """
        for gauge in (self.backlog, self.oldest, self.dead_letters):
            gauge.clear()
