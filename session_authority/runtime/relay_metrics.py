"""Defines the metrics of a relay. Label values are names of endpoints, are versions of software, or
come from fixed sets.
"""

from __future__ import annotations

from session_authority.runtime.process_metrics import ProcessMetrics


class RelayMetrics(ProcessMetrics):
    """The metrics of one relay."""

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
        """Removes the numbers of waiting events and dead letters, and the ages of the oldest
        events, because their present values are unknown.
        """
        for gauge in (self.backlog, self.oldest, self.dead_letters):
            gauge.clear()
