"""The form in which one event is sent to an endpoint, and its signature."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from session_authority.domain.clients import Client
from session_authority.domain.events import NOBODY, Event, EventType, RecordedEvent
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.verdicts import ReplayCause
from session_authority.relay import (
    cloud_event,
)
from session_authority.relay.webhooks import signature_headers
from tests.relay.senders import (
    BODY,
    NOW,
)

CLIENT = Client(
    "203.0.113.7", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", "Zoë's phone", "4.12.0"
)


TOLD_OF_CLIENT = {
    "info": {
        "ip_address": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
        "display_name": "Zoë's phone",
        "app_version": "4.12.0",
    },
    "operating_system": "iOS 17",
    "form_factor": "FORM_FACTOR_PHONE",
    "model": "iPhone",
}


FULL = Event(
    type=EventType.UNKNOWN,
    happened_at=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
    user_id="user-ü",
    actor="billing",
    device_id=UUID(int=7),
    device_display_name="Zoë's phone",
    device_client=CLIENT,
    client=CLIENT,
    session_id=b"\x01\xab",
    reason="she said 'no'",
    new_device=True,
    first_device=True,
    replay_cause=ReplayCause.SECOND_COPY,
    replay_action=ReplayAction.REVOKE_ALL,
    except_device_id=UUID(int=8),
    key_id="k1",
)


class TestCloudEvent:
    @pytest.mark.parametrize("kind", EventType)
    def test_every_field_of_each_type_is_sent(self, kind):
        name = "UNSPECIFIED" if kind is EventType.UNKNOWN else kind.name
        body = cloud_event(RecordedEvent("e1", replace(FULL, type=kind)), "https://auth.example/")
        data = {
            "event_id": "e1",
            "type": f"EVENT_TYPE_{name}",
            "create_time": "2026-01-02T03:04:05.678Z",
            "user_id": "user-ü",
            "device": {
                "device_id": "00000000-0000-0000-0000-000000000007",
                "display_name": "Zoë's phone",
                "last_client": TOLD_OF_CLIENT,
            },
            "client": TOLD_OF_CLIENT,
            "session_id": "01ab",
            "actor": "billing",
            "reason": "she said 'no'",
            "new_device": True,
            "first_device": True,
            "replay_cause": "REPLAY_CAUSE_SECOND_COPY",
            "replay_action": "REPLAY_ACTION_REVOKE_ALL",
            "except_device_id": "00000000-0000-0000-0000-000000000008",
            "key_id": "k1",
        }
        if kind is EventType.UNKNOWN:  # Protobuf leaves out fields without a value.
            del data["type"]
        assert json.loads(body) == {
            "specversion": "1.0",
            "id": "e1",
            "source": "https://auth.example/",
            "type": f"session_authority.v1.{name}",
            "subject": "user-ü",
            "time": "2026-01-02T03:04:05.678Z",
            "datacontenttype": "application/json",
            "data": data,
        }

    @pytest.mark.parametrize("kind", [kind for kind in EventType if kind is not EventType.UNKNOWN])
    def test_fields_that_do_not_apply_are_absent(self, kind):
        event = Event(type=kind, happened_at=NOW, user_id=NOBODY, actor="")
        assert json.loads(cloud_event(RecordedEvent("e1", event), "urn:x")) == {
            "specversion": "1.0",
            "id": "e1",
            "source": "urn:x",
            "type": f"session_authority.v1.{kind.name}",
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "data": {
                "event_id": "e1",
                "type": f"EVENT_TYPE_{kind.name}",
                "create_time": "2026-01-01T00:00:00Z",
            },
        }

    def test_text_of_any_script_is_utf_8(self):
        event = replace(FULL, reason='«ü» 😀 "\\\n\u2028')
        body = cloud_event(RecordedEvent("e1", event), "urn:x")
        assert json.loads(body.decode("utf-8"))["data"]["reason"] == event.reason
        assert "😀".encode() in body

    def test_the_json_has_no_superfluous_byte(self):
        body = cloud_event(
            RecordedEvent("e1", Event(EventType.ALL_REVOKED, NOW, NOBODY, "")), "urn:x"
        )
        assert b" " not in body


class TestSignature:
    SECRETS = (b"new" * 10, b"old" * 8, bytes(range(64)))

    def _headers(self) -> dict[str, str]:
        return signature_headers(self.SECRETS, "0-1-2", BODY, datetime.now(UTC))

    def test_an_event_with_one_flipped_byte_does_not_verify(self):
        headers = self._headers()
        headers["webhook-signature"] = headers["webhook-signature"].split(" ")[0]
        webhook = Webhook(self.SECRETS[0])
        webhook.verify(BODY, headers)
        signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1,"))
        forged = [(flipped, headers) for flipped in _flipped(BODY)]
        for name in ("webhook-id", "webhook-timestamp"):
            forged += [
                (BODY, headers | {name: flipped.decode()})
                for flipped in _flipped(headers[name].encode())
            ]
        for flipped in _flipped(signature):
            forged.append(
                (BODY, headers | {"webhook-signature": "v1," + base64.b64encode(flipped).decode()})
            )
        assert len(forged) == len(BODY) + 5 + 10 + 32
        for body, said in forged:
            with pytest.raises(WebhookVerificationError):
                webhook.verify(body, said)


def _flipped(text: bytes) -> list[bytes]:
    return [text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :] for at in range(len(text))]
