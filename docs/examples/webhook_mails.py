"""Receives webhooks, and mails users about a sign-in on a new device or a stolen token.

    pip install standardwebhooks
    export SECRET="$(session-authority relay secret)" LISTEN=127.0.0.1:8080 SMTP=127.0.0.1:25
    export MAIL_DOMAIN=example.org MY_DEVICES=https://www.example.org/devices
    python docs/examples/webhook_mails.py

The relay signs with the same secret: put it into its file of endpoints. This needs no gRPC. It
answers once the mail was handed over: if anything goes wrong the relay sends the event again.
Events may come twice; an event that the receiver remembers sends one mail. Put the receiver behind
your TLS proxy.
"""

from __future__ import annotations

import os
import re
import smtplib
import sys
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = os.environ.get("SECRET", "")
LISTEN = os.environ.get("LISTEN", "127.0.0.1:8080")
SMTP = os.environ.get("SMTP", "127.0.0.1:25")
MAIL_DOMAIN = os.environ.get("MAIL_DOMAIN", "example.org")
# The page of your app that lists a user's devices.
MY_DEVICES = os.environ.get("MY_DEVICES", "https://www.example.org/devices")
LONGEST_BODY = 1024 * 1024
REMEMBERED = 10_000
mailed: dict[str, None] = {}  # event IDs, the oldest first


def address_of(user_id: str) -> str:
    """Where a user gets mail. Put your own look-up here."""
    if re.fullmatch(r"[\w+-]+(\.[\w+-]+)*@[\w-]+(\.[\w-]+)*", user_id, re.ASCII):
        return user_id
    # Quoted: "a@b, c@d" must not be two addresses.
    return Address(username=user_id, domain=MAIL_DOMAIN).addr_spec


# begin: what both say
NEW_SIGN_IN = (
    "A new sign-in",
    """\
If that was you, there is nothing to do. If it was not, change your
password, then sign the device out in the list of your devices:
""",
)
COPY_USED = (
    "A copy of your sign-in was used",
    """\
Somebody may have copied it from your device. Change your password, then
sign out each device that you don't know, in the list of your devices:
""",
)


def text_of(
    event_id: str, browser: str, system: str, address: str, when: datetime, advice: str
) -> str:
    """The text of the mail: what happened, what to do, and a link to the page of devices. The link
    marks the event on that page, and does nothing by itself.
    """
    device = f"{browser or 'A browser'} on {system or 'a device'}"
    happened = f"{device}, at {address or 'an unknown address'}, {when:%d %B, %H:%M} UTC."
    return f"{happened}\n\n{advice}\n{MY_DEVICES}?alarm={event_id}\n"


# end: what both say


def mail_about(cloud_event: dict[str, Any]) -> EmailMessage | None:
    """Returns the mail, written from the event alone, or None if no mail is due."""
    event = cloud_event["data"]
    replayed = event["type"] == "EVENT_TYPE_SESSION_REPLAYED"
    if not replayed and not (event.get("new_device") and not event.get("first_device")):
        return None
    mail = EmailMessage()
    mail["To"], mail["From"] = address_of(cloud_event["subject"]), f"security@{MAIL_DOMAIN}"
    mail["Message-ID"] = f"<{cloud_event['id']}@{MAIL_DOMAIN}>"  # the same each time
    mail["Subject"], advice = COPY_USED if replayed else NEW_SIGN_IN
    client = event.get("client", {})
    where = (client.get("browser", ""), client.get("operating_system", ""))
    address = client.get("info", {}).get("ip_address", "")
    when = datetime.fromisoformat(cloud_event["time"]).astimezone(UTC)
    mail.set_content(text_of(cloud_event["id"], *where, address, when, advice))
    return mail


class Receiver(BaseHTTPRequestHandler):
    """Handles one event after the other."""

    timeout = 10  # seconds: no sender may keep the others waiting

    def do_POST(self) -> None:
        """Answers 204 once the mail was handed over, else 503: the relay sends it again.

        A body that the relay did not sign gets 400.
        """
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            return self.send_error(413)
        try:
            event = Webhook(SECRET).verify(self.rfile.read(int(length)), dict(self.headers))
        except (WebhookVerificationError, ValueError):
            return self.send_error(400, "not signed as agreed")
        if event["id"] not in mailed:
            try:
                send(mail_about(event))
            except (OSError, smtplib.SMTPException) as error:
                print(f"no mail can be sent: {type(error).__name__}", file=sys.stderr, flush=True)
                return self.send_error(503)
            remember(event["id"])
        self.send_response(204)
        self.end_headers()
        return None


def send(mail: EmailMessage | None) -> None:
    """Sends a mail. A mail that can never be sent is dropped, so that it does not come again.

    Raises OSError or SMTPException if the mail may be sent later.
    """
    if mail is None:
        return
    with smtplib.SMTP(SMTP, timeout=5) as smtp:
        try:
            smtp.send_message(mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError) as error:
            if any(code < 500 for code, _ in getattr(error, "recipients", {}).values()):
                raise
            print(
                f"no mail {mail['Message-ID']}: {type(error).__name__}", file=sys.stderr, flush=True
            )


def remember(event_id: str) -> None:
    """Remembers the latest events, so that a repeat sends no second mail."""
    mailed[event_id] = None
    if len(mailed) > REMEMBERED:
        del mailed[next(iter(mailed))]


def main() -> None:
    """Listens until it is stopped."""
    Webhook(SECRET)  # raises if there is no secret: better now than at the first event
    host, _, port = LISTEN.rpartition(":")
    with HTTPServer((host, int(port)), Receiver) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
