"""Delivers events to HTTP endpoints, as signed webhooks, at least once.

Owns what an endpoint is, how one event is sent to it, and who sends which events when. Refuses to
keep state of its own: how far deliveries have come is the store's. The service does not need it,
and it does not need the service.
"""
