"""docs/protocol.md: its tables agree with the contract and with the Python client."""

from __future__ import annotations

import json
import re

import pytest
from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2, status_pb2

from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from session_authority_client import cache, errors
from session_authority_client._async import batching as loop_batching
from session_authority_client._shared import batching, failures, limiter, open_sessions, transport
from session_authority_client.cache import NearCache
from session_authority_client.cookies import MAX_COOKIE_AGE, Cookies
from session_authority_client.devices.answers import STATUS
from session_authority_client.devices.listing import PAGE_SIZE
from session_authority_client.devices.requests import MAX_BODY_BYTES
from session_authority_client.devices.routes import PUBLIC, ROUTES
from session_authority_client.flow import CONDUCT, VARIES, Conduct
from session_authority_client.types import EventType, SessionStatus
from session_authority_client.wire import status_pb2 as own_status_pb2
from tests.e2e.protocol_harness import PAGE, ROOT, section

pytestmark = pytest.mark.one_acceptor

CONTRACT = (ROOT / "protos" / "session_authority" / "v1" / "errors.proto").read_text("utf-8")
CONDUCTS = {
    Conduct.GO_ON: "go on",
    Conduct.RENEW: "renew",
    Conduct.DENY: "deny",
    Conduct.WIPE: "deny and wipe",
}


def rows(name: str) -> list[list[str]]:
    """The cells of a table, without its title."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    """The names in a cell."""
    return re.findall(r"`([A-Za-z_.0-9/*-]+)`", cell)


def kind_of(error: type[errors.SessionAuthorityError]) -> str:
    """The word for a kind of error that all languages share."""
    if error is errors.SessionAuthorityError:
        return "other"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).lower()


def test_every_reason_has_its_code_and_kind():
    listed = {words(row[0])[0]: (words(row[1])[0], words(row[2])[0]) for row in rows("errors")}
    found = re.findall(r"  // ([A-Z_]+)[.,].*\n(?:  //.*\n)*  ERROR_REASON_(\w+) = ", CONTRACT)
    codes = {reason: code for code, reason in found}
    names = [value.name for value in errors_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"].values]
    reasons = {name.removeprefix("ERROR_REASON_") for name in names}
    assert listed.keys() == codes.keys() == reasons - {"UNSPECIFIED"}
    assert listed == {
        reason: (code, kind_of(failures._BY_REASON[reason])) for reason, code in codes.items()
    }


def test_every_code_without_a_reason_has_its_kind():
    *known, rest = rows("codes")
    listed = {code: words(row[1])[0] for row in known for code in words(row[0])}
    assert listed == {code.name: kind_of(made) for code, made in failures._BY_CODE.items()}
    assert words(rest[1]) == [kind_of(errors.SessionAuthorityError)]


def test_every_status_has_its_conduct():
    listed = {status: row[1] for row in rows("conduct") for status in words(row[0])}
    assert listed == {status.name: CONDUCTS[conduct] for status, conduct in CONDUCT.items()}
    assert listed.keys() == {status.name for status in SessionStatus}


def test_every_event_has_its_effect():
    listed = {kind: row[1:] for row in rows("events") for kind in words(row[0])}
    assert listed.keys() == {kind.name for kind in EventType}
    of_a_user = {EventType(number).name for number in cache._OF_A_USER}
    assert {kind for kind, cells in listed.items() if cells[0] == "drops the user"} == of_a_user
    for numbers, said in (
        (open_sessions._ENDS_ONE, "ends the session that it names"),
        (open_sessions._ENDS_NONE, "nothing"),
    ):
        named = {pb.EventType.Name(number).removeprefix("EVENT_TYPE_") for number in numbers}
        assert {kind for kind, cells in listed.items() if cells[1] == said} == named


def test_the_options_of_the_channel_are_those_of_the_client():
    options = dict(transport._OPTIONS)
    del options["grpc.service_config"]
    assert {words(row[0])[0]: int(row[1]) for row in rows("channel")} == options


def test_the_service_config_equals_that_of_the_client():
    [config] = re.findall(r"```json\n(.*?)```", section("service config"), re.DOTALL)
    assert json.loads(config) == transport._SERVICE_CONFIG


def test_the_figures_of_the_cache_equal_those_of_the_client():
    figures = [row[1] for row in rows("cache")]
    assert figures == [
        f"{cache.MAX_AGE.total_seconds():g} s",
        f"{cache.MAX_SILENCE.total_seconds():g} s",
        f"{cache._SETTLING_SECONDS:g} s",
        f"{cache._MAX_AHEAD_SECONDS:g} s",
        str(NearCache()._max_entries),
        f"{cache._MAX_DEVICE_ID_CHARACTERS} characters",
    ]
    dropped = NearCache().stats().dropped
    said = PAGE.partition("`dropped` counts dropped entries by reason")[2].partition("\n\n")[0]
    assert set(words(said)) == set(dropped)


def test_the_figures_in_sentences_equal_those_of_the_client():
    wait, share = batching.MAX_WAIT_SECONDS, batching.MAX_WAIT_SHARE
    assert share == 0.25, "the page says: a quarter"
    for said in (
        f"waits for at most {wait * 1000:g} ms, or a quarter of its time",
        f"{loop_batching._SECOND_BATCH_WAITERS} callers are in it, if only one call is under way",
        f"at most {batching.MAX_BATCH_ITEMS} requests and {batching.MAX_BATCH_BYTES >> 20} MiB",
        f"Send a request over {batching.MAX_ITEM_BYTES >> 10} KiB",
        f"**At most {limiter.MAX_IN_FLIGHT} calls at once**",
        f"It is {transport.DEFAULT_TIMEOUT.total_seconds() * 1000:g} ms, with retries",
        f"at most {MAX_COOKIE_AGE.total_seconds():.0f} (400 days)",
        f"`Vary: {', '.join(VARIES)}`",
        f"`{Cookies().take_back(device=False)[0]}`",
    ):
        assert said in " ".join(PAGE.split()), said


def test_the_api_of_devices_has_the_routes_of_the_client():
    listed = {words(row[0])[0]: words(row[1]) for row in rows("devices")}
    assert listed == {
        "/".join(path): list(methods) for path, methods in ROUTES.items() if path[:1] == ("api",)
    }
    open_to_all = {words(row[0])[0] for row in rows("devices") if "no session" in row[2]}
    actions = {"/".join(path): action for path, of in ROUTES.items() for action in of.values()}
    assert open_to_all == {path for path in listed if actions[path] in PUBLIC}


def test_the_errors_of_devices_are_those_of_the_client():
    listed = {words(row[0])[0]: int(row[1]) for row in rows("device errors")}
    assert listed == STATUS
    for said in (f"a page of {PAGE_SIZE} devices", f"at most {MAX_BODY_BYTES:,} bytes"):
        assert said in " ".join(PAGE.split())


def fields_of(message: Descriptor) -> dict[str, tuple[int, int, bool]]:
    """The fields of a message by name: each number, each type, and whether it is repeated."""
    return {field.name: (field.number, field.type, field.is_repeated) for field in message.fields}


def test_the_messages_of_errors_are_those_of_google_rpc():
    given = {
        **status_pb2.DESCRIPTOR.message_types_by_name,
        **error_details_pb2.DESCRIPTOR.message_types_by_name,
    }
    own = own_status_pb2.DESCRIPTOR.message_types_by_name
    assert set(own) == {"Status", "ErrorInfo", "RetryInfo", "BadRequest"}
    for name, message in own.items():
        assert fields_of(message) == fields_of(given[name])
        for nested in message.nested_types:
            other = given[name].nested_types_by_name[nested.name]
            assert fields_of(nested).items() <= fields_of(other).items()
