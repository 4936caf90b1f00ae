"""The signature of an event, by the cases that the clients of all languages share. Endpoints verify
it with any library for Standard Webhooks.
"""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError, webhooks

from client_tests.vectors import Case, each
from session_authority.relay.webhooks import signature_headers


@each("signatures", "sign")
def test_events_are_signed(case: Case):
    given = case.given
    headers = signature_headers(
        [b64decode(secret) for secret in given["secrets_base64"]],
        given["event_id"],
        b64decode(given["body_base64"]),
        datetime.fromtimestamp(given["now"], UTC),
    )
    assert headers == case.expected["headers"]


@each("signatures", "verify")
def test_endpoints_accept_only_signed_events(case: Case, monkeypatch: pytest.MonkeyPatch):
    given = case.given

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(given["now"], tz)

    monkeypatch.setattr(webhooks, "datetime", Stopped)
    webhook, body = Webhook(given["secret"]), b64decode(given["body_base64"])
    if case.expected["valid"]:
        webhook.verify(body, given["headers"], json_parse=False)
    else:  # The library raises ValueError for a header that is no list of signatures.
        with pytest.raises((WebhookVerificationError, ValueError)):
            webhook.verify(body, given["headers"], json_parse=False)
