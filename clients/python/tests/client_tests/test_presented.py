"""How the flow reads requests, by the cases that the clients of all languages share."""

from __future__ import annotations

from typing import Any

from client_tests.vectors import Case, each, flow_of, headers_of
from session_authority_client.flow import Refused


def presented(case: Case) -> dict[str, Any]:
    """The contents that the flow reads from a case's request, in the words of the vectors."""
    request = case.given["request"]
    try:
        found = flow_of(case.settings).presented(
            request["method"], headers_of(request["headers"]), request["peer"], request["target"]
        )
    except Refused as refused:
        return {"refusal": refused.code, "presented": None}
    brought = {
        "client": "app" if found.app else "browser",
        "token": found.token,
        "token_status": found.status and found.status.name,
        "device_id": found.device_id,
        "brief_session_id": found.brief,
        "wants_page": found.page,
        "passive": found.passive,
        "return_path": found.way_back,
        "ip_address": found.client.ip_address,
        "user_agent": found.client.user_agent,
    }
    return {"refusal": None, "presented": brought}


@each("presented")
def test_a_request_is_read_as_its_case_says(case: Case) -> None:
    assert presented(case) == case.expected
