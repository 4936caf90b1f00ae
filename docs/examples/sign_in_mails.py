"""Watches events over gRPC, and mails users about a sign-in on a new device or a stolen token.

    export AUTHORITY=127.0.0.1:50051 SMTP=127.0.0.1:25 CURSOR=sign_in_mails.cursor
    python docs/examples/sign_in_mails.py

Needs grpcio, protobuf and the stubs, `session_authority.v1`. Run only one process of it. No mail is
lost, whichever process is killed; after a kill a mail may come twice, with the same Message-ID.
"""

from __future__ import annotations

import os
import re
import smtplib
import sys
import time
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path

import grpc

from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
SMTP = os.environ.get("SMTP", "127.0.0.1:25")
CURSOR = Path(os.environ.get("CURSOR", "sign_in_mails.cursor"))
MAIL_DOMAIN = os.environ.get("MAIL_DOMAIN", "example.org")


def address_of(user_id: str) -> str:
    """Where a user gets mail. Put your own look-up here."""
    if re.fullmatch(r"[\w+-]+(\.[\w+-]+)*@[\w-]+(\.[\w-]+)*", user_id, re.ASCII):
        return user_id
    # Quoted: "a@b, c@d" must not be two addresses.
    return Address(username=user_id, domain=MAIL_DOMAIN).addr_spec


# begin: twenty lines
def mail_about(event: pb.Event) -> EmailMessage:
    """Returns the mail, written from the event alone."""
    mail = EmailMessage()
    mail["To"], mail["From"] = address_of(event.user_id), "security@example.org"
    mail["Message-ID"] = f"<{event.event_id}@example.org>"  # a repeat has the same: shown once
    mail["Subject"] = "A new sign-in" if event.new_device else "Somebody else used your sign-in"
    who = f"{event.client.browser or 'A browser'} on {event.client.operating_system or 'a device'}"
    when = f"{event.create_time.ToDatetime():%d %B, %H:%M} UTC"
    mail.set_content(f"{who}, at {event.client.info.ip_address}, {when}.")
    return mail


def watch(stub: pb_grpc.SessionAuthorityServiceStub) -> None:
    """Goes on from the kept cursor. A cursor is kept once its mails are out, so none is lost."""
    cursor = CURSOR.read_text() if CURSOR.exists() else ""
    wanted = [pb.EVENT_TYPE_DEVICE_SIGNED_IN, pb.EVENT_TYPE_SESSION_REPLAYED]
    request = pb.WatchEventsRequest(cursor=cursor, types=wanted)
    for message in stub.WatchEvents(request, wait_for_ready=True):
        for event in message.events:
            new = event.new_device and not event.first_device
            if new or event.type == pb.EVENT_TYPE_SESSION_REPLAYED:
                send(mail_about(event))
        keep(message.cursor)


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
    options = [
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.keepalive_time_ms", 30_000),  # finds out that a connection has silently died
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(AUTHORITY, options) as channel:
        stub = pb_grpc.SessionAuthorityServiceStub(channel)
        while True:
            try:
                watch(stub)
            except grpc.RpcError as error:
                print(f"the watch ended: {error.code().name}", file=sys.stderr, flush=True)
                # CURSOR_EXPIRED: some mails may be missing.
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    CURSOR.unlink(missing_ok=True)
            except (OSError, smtplib.SMTPException) as error:
                # The next round sends again, from the kept cursor.
                print(f"no mail can be sent: {type(error).__name__}", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
