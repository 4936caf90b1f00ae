"""What a relay counts. Label values are names of endpoints, and come from fixed sets."""

from __future__ import annotations

from session_authority.runtime.process_metrics import ProcessMetrics


class RelayMetrics(ProcessMetrics):
    """The numbers of one relay."""

    def __init__(self) -> None:
        super().__init__()
        self.deliveries = self.rare(
            "deliveries",
            "Attempts to deliver an event to an endpoint: delivered, failed; and events that were"
            " given up.",
            ["endpoint", "outcome"],
        )
