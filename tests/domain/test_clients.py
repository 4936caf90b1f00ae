"""The fields of a client that the service stores."""

from __future__ import annotations

from session_authority.domain.clients import NO_CLIENT, Client


def test_an_update_replaces_only_the_fields_that_it_has():
    before = Client(
        ip_address="203.0.113.7",
        user_agent="curl/8.5.0",
        display_name="Pixel 8",
        app_version="4.11",
    )
    assert before.updated_by(Client()) == before
    assert before.updated_by(NO_CLIENT) == before
    assert Client().updated_by(before) == before
    after = before.updated_by(Client(app_version="4.12"))
    assert after == Client("203.0.113.7", "curl/8.5.0", "Pixel 8", "4.12")
