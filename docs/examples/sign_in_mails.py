"""Watches events over gRPC, and mails users about a sign-in on a new device or a stolen token.

    pip install ./clients/python
    export AUTHORITY=127.0.0.1:50051 SMTP=127.0.0.1:25 CURSOR=sign_in_mails.cursor
    export MAIL_DOMAIN=example.org MY_DEVICES=https://www.example.org/devices
    python docs/examples/sign_in_mails.py

Against a service with TLS, AUTHORITY_CA, AUTHORITY_CERT, AUTHORITY_KEY and AUTHORITY_TOKEN_FILE
name the files to show; the caller needs the role `watcher`. Run only one process of it. No mail is
lost, whichever process is killed; after a kill a mail may come twice, with the same Message-ID.
"""

from __future__ import annotations

import os
import re
import smtplib
import sys
import time
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path

from session_authority_client import (
    CursorExpired,
    Event,
    EventType,
    SessionAuthority,
    SessionAuthorityError,
)
from session_authority_client.environment import credentials_from_environment

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
SMTP = os.environ.get("SMTP", "127.0.0.1:25")
CURSOR = Path(os.environ.get("CURSOR", "sign_in_mails.cursor"))
MAIL_DOMAIN = os.environ.get("MAIL_DOMAIN", "example.org")
# The page of your app that lists a user's devices.
MY_DEVICES = os.environ.get("MY_DEVICES", "https://www.example.org/devices")


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


# begin: twenty lines
def mail_about(event: Event) -> EmailMessage:
    """Returns the mail, written from the event alone."""
    mail = EmailMessage()
    mail["To"], mail["From"] = address_of(event.user_id), f"security@{MAIL_DOMAIN}"
    mail["Message-ID"] = f"<{event.event_id}@{MAIL_DOMAIN}>"  # the same if the mail is repeated
    replayed = event.type is EventType.SESSION_REPLAYED
    mail["Subject"], advice = COPY_USED if replayed else NEW_SIGN_IN
    where = (event.browser, event.operating_system, event.client.ip_address)
    mail.set_content(text_of(event.event_id, *where, event.create_time, advice))
    return mail


def watch(authority: SessionAuthority) -> None:
    """Resumes from the stored cursor. Stores a cursor after its mails, so that no mail is lost."""
    cursor = CURSOR.read_text() if CURSOR.exists() else ""
    wanted = (EventType.DEVICE_SIGNED_IN, EventType.SESSION_REPLAYED)
    for batch in authority.watch_events(cursor=cursor, types=wanted):
        for event in batch.events:
            new = event.new_device and not event.first_device
            if new or event.type is EventType.SESSION_REPLAYED:
                send(mail_about(event))
        keep(batch.cursor)


# end: twenty lines


def send(mail: EmailMessage) -> None:
    """Sends a mail. A mail that can never be sent is dropped, so that it holds up no other.

    Raises OSError or SMTPException if the mail may be sent later.
    """
    with smtplib.SMTP(SMTP, timeout=30) as smtp:
        try:
            smtp.send_message(mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError) as error:
            if any(code < 500 for code, _ in getattr(error, "recipients", {}).values()):
                raise
            print(
                f"no mail {mail['Message-ID']}: {type(error).__name__}", file=sys.stderr, flush=True
            )


def keep(cursor: str) -> None:
    """Writes the whole cursor or nothing, even if the power fails."""
    with CURSOR.with_suffix(".new").open("w") as file:
        file.write(cursor)
        file.flush()
        os.fsync(file.fileno())
    CURSOR.with_suffix(".new").replace(CURSOR)


def main() -> None:
    """Watches until it is stopped."""
    with SessionAuthority(AUTHORITY, **credentials_from_environment()) as authority:
        while True:
            try:
                watch(authority)
            except CursorExpired:  # some mails may be missing
                print("events may have been missed", file=sys.stderr, flush=True)
                CURSOR.unlink(missing_ok=True)
            except SessionAuthorityError as error:
                print(f"the watch ended: {error}", file=sys.stderr, flush=True)
            except (OSError, smtplib.SMTPException) as error:
                # The next round sends again, from the kept cursor.
                print(f"no mail can be sent: {type(error).__name__}", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
