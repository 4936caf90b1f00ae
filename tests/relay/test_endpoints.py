"""The file of endpoints: what it may contain, and every fault that it may have."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from session_authority.domain.events import EventType
from session_authority.relay import Endpoint, EndpointsError, load_endpoints, new_secret
from session_authority.runtime.addresses import is_loopback


def _secret(size: int = 32, byte: bytes = b"s") -> str:
    return "whsec_" + base64.b64encode(byte * size).decode()


SECRET = _secret()
RULE_OF_SECRETS = "each must be whsec_ and the base64 of 24 to 64 bytes"
RULE_OF_NAMES = "must be 1 to 32 lower-case letters, digits or '-'"
RULE_OF_TEXTS = "must be a list of printable texts, none of them empty"
RULE_OF_FLIGHT = "max_in_flight: must be a number from 1 to 256"
HTTPS = "must be https, unless it is on this machine"
NO_HOST = "must name a host"
UNKNOWN_FIELD = (
    "is not known; there are max_in_flight, name, secret_files, secrets, timeout, types, url"
)
UNKNOWN_TYPE = (
    "is no type of event; there are"
    f" {', '.join(kind.name for kind in EventType if kind is not EventType.UNKNOWN)}"
)
NO_START = "must start with https:// and name a host"
ASCII = "must be ASCII without white space; write other host names as punycode"


def _write(folder: Path, text: str) -> Path:
    path = folder / "endpoints.toml"
    path.touch(0o600)
    path.write_text(text, "utf-8")
    return path


def _table(*lines: str, **fields: str | None) -> str:
    """A good endpoint with these changes. None leaves a field out."""
    sound: dict[str, str | None] = {
        "name": '"a"',
        "url": '"https://a.example/"',
        "secrets": f'["{SECRET}"]',
    }
    said = [f"{name} = {value}" for name, value in (sound | fields).items() if value is not None]
    return "\n".join(["[[endpoint]]", *said, *lines, ""])


def _faults(path: Path) -> list[str]:
    """The faults, without the path at the start of each line."""
    with pytest.raises(EndpointsError) as caught:
        load_endpoints(path)
    # A traceback shows no secret either.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_an_endpoint_with_few_fields_gets_the_defaults(tmp_path):
    assert load_endpoints(_write(tmp_path, _table())) == (
        Endpoint(
            "a",
            "https://a.example/",
            (b"s" * 32,),
            frozenset(),
            timedelta(seconds=10),
            16,
            private=False,
        ),
    )


def test_endpoints_with_every_field_are_read(tmp_path):
    (tmp_path / "old").write_text(f"\n  {_secret(24, b'o')}  \n\n{_secret(64, b'p')}\n")
    (tmp_path / "old").chmod(0o640)
    text = 'private_hosts = ["B.internal", "10.0.0.7"]\n' + _table(
        name='"b-2"',
        url='"https://b.INTERNAL:8443/hooks?x=1"',
        secret_files='["old"]',
        types='["DEVICE_REVOKED", "ALL_REVOKED"]',
        timeout='"100ms"',
        max_in_flight="256",
    )
    text += _table(name='"c"', url='"https://c.example/"', timeout='"PT1M"', max_in_flight="1")
    b, c = load_endpoints(_write(tmp_path, text))
    assert b == Endpoint(
        "b-2",
        "https://b.INTERNAL:8443/hooks?x=1",
        (b"s" * 32, b"o" * 24, b"p" * 64),
        frozenset({EventType.DEVICE_REVOKED, EventType.ALL_REVOKED}),
        timedelta(milliseconds=100),
        256,
        private=True,
    )
    assert (c.timeout, c.max_in_flight, c.private) == (timedelta(seconds=60), 1, False)


@pytest.mark.parametrize("kind", [kind for kind in EventType if kind is not EventType.UNKNOWN])
def test_each_type_of_event_may_be_selected(tmp_path, kind):
    (endpoint,) = load_endpoints(_write(tmp_path, _table(types=f'["{kind.name}"]')))
    assert endpoint.types == {kind}


@pytest.mark.parametrize(
    "url",
    [
        "https://a",
        "https://a.example.:8443/",
        "https://A_b.example/?q=%00",
        "https://xn--bcher-kva.example/",
        "https://192.0.2.1/",
        "https://[2001:db8::1]:8443/x",
        "HTTPS://a.example",
        "https://" + "a" * 63 + ".example/",
        "http://localhost:8080/",
        "http://LocalHost./",
        "http://127.0.0.1/",
        "http://127.9.9.9/",
        "http://[::1]:80/",
    ],
)
def test_good_urls_are_accepted_unchanged(tmp_path, url):
    (endpoint,) = load_endpoints(_write(tmp_path, _table(url=f'"{url}"')))
    assert endpoint.url == url
    httpx.URL(url)  # httpx, which calls the endpoint, accepts the URL too.


# The fields of an otherwise good endpoint, and the only line that reports the fault.
FAULTS: list[tuple[dict[str, str | None], str]] = [
    ({"name": None}, f"endpoint number 1: name: {RULE_OF_NAMES}"),
    ({"name": "7"}, f"endpoint number 1: name: {RULE_OF_NAMES}"),
    ({"name": '""'}, f"endpoint number 1: name: {RULE_OF_NAMES}"),
    ({"name": '"A"'}, f"endpoint 'A': name: {RULE_OF_NAMES}"),
    ({"name": '"-a"'}, f"endpoint '-a': name: {RULE_OF_NAMES}"),
    ({"name": '"a\\n"'}, f"endpoint 'a\\n': name: {RULE_OF_NAMES}"),
    ({"name": '"é"'}, f"endpoint 'é': name: {RULE_OF_NAMES}"),
    ({"name": f'"{"a" * 33}"'}, f"endpoint '{'a' * 33}': name: {RULE_OF_NAMES}"),
    ({"url": None}, "endpoint 'a': url: must be given"),
    ({"url": "7"}, "endpoint 'a': url: must be given"),
    (
        {"secrets": None},
        "secrets: there must be at least one, here or in secret_files; `relay secret` makes one",
    ),
    (
        {"secrets": "[]"},
        "secrets: there must be at least one, here or in secret_files; `relay secret` makes one",
    ),
    ({"secrets": f'"{SECRET}"'}, f"secrets: {RULE_OF_TEXTS}"),
    ({"secrets": "[7]"}, f"secrets: {RULE_OF_TEXTS}"),
    ({"secrets": '[""]'}, f"secrets: {RULE_OF_TEXTS}"),
    ({"secrets": f'["{SECRET}\\n"]'}, f"secrets: {RULE_OF_TEXTS}"),
    ({"secrets": f'["{SECRET.removeprefix("whsec_")}"]'}, f"secrets: {RULE_OF_SECRETS}"),
    ({"secrets": f'["{_secret(23)}"]'}, f"secrets: {RULE_OF_SECRETS}"),
    ({"secrets": f'["{_secret(65)}"]'}, f"secrets: {RULE_OF_SECRETS}"),
    ({"secrets": f'["{SECRET[:-1]}"]'}, f"secrets: {RULE_OF_SECRETS}"),
    ({"secrets": f'["{SECRET[:-4]}-_-="]'}, f"secrets: {RULE_OF_SECRETS}"),
    ({"secrets": f'["{SECRET[:-4]}é"]'}, f"secrets: {RULE_OF_SECRETS}"),
    ({"secret_files": '"x"'}, f"secret_files: {RULE_OF_TEXTS}"),
    ({"secret_files": '["\\u0000"]'}, f"secret_files: {RULE_OF_TEXTS}"),
    (
        {"secret_files": f'["{SECRET}"]'},
        "secret_files: must be names of files; a secret itself belongs in secrets",
    ),
    ({"types": '"DEVICE_REVOKED"'}, f"types: {RULE_OF_TEXTS}"),
    ({"types": '["device_revoked"]'}, f"types: 'device_revoked' {UNKNOWN_TYPE}"),
    ({"types": '["UNKNOWN"]'}, f"types: 'UNKNOWN' {UNKNOWN_TYPE}"),
    ({"timeout": "10"}, "timeout: must be a duration with a unit, like 90s, 15m, 12h or 30d"),
    (
        {"timeout": '"soon"'},
        "timeout: must be a duration, like 90s, 15m, 12h, 30d or ISO 8601's PT15M",
    ),
    ({"timeout": '"99ms"'}, "timeout: must be from 100ms to 60s"),
    ({"timeout": '"61s"'}, "timeout: must be from 100ms to 60s"),
    ({"timeout": f'"{"9" * 30}d"'}, "timeout: is too long"),
    ({"max_in_flight": "0"}, RULE_OF_FLIGHT),
    ({"max_in_flight": "-1"}, RULE_OF_FLIGHT),
    ({"max_in_flight": "257"}, RULE_OF_FLIGHT),
    ({"max_in_flight": "true"}, RULE_OF_FLIGHT),
    ({"max_in_flight": "1.0"}, RULE_OF_FLIGHT),
    ({"max_in_flight": '"8"'}, RULE_OF_FLIGHT),
    ({"colour": '"red"'}, f"colour: {UNKNOWN_FIELD}"),
    ({"private": "true"}, f"private: {UNKNOWN_FIELD}"),
]


@pytest.mark.parametrize(("fields", "line"), FAULTS)
def test_each_fault_is_one_line(tmp_path, fields, line):
    expected = line if line.startswith("endpoint ") else f"endpoint 'a': {line}"
    assert _faults(_write(tmp_path, _table(**fields))) == [expected]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", NO_START),
        ("a.example", NO_START),
        ("//a.example/", NO_START),
        ("https:///x", NO_START),
        ("https:/a", NO_START),
        ("https://:443/", NO_START),
        ("ftp://a.example/", NO_START),
        ("file:///etc/passwd", NO_START),
        ("javascript:alert(1)", NO_START),
        ("http://a.example/", HTTPS),
        ("http://10.0.0.1/", HTTPS),
        ("http://127.1/", HTTPS),
        ("http://2130706433/", HTTPS),
        ("http://0x7f000001/", HTTPS),
        ("http://0177.0.0.1/", HTTPS),
        ("http://[::ffff:127.0.0.1]/", HTTPS),
        ("http://localhost.example/", HTTPS),
        ("http://127.0.0.1.example/", HTTPS),
        ("https://user@a.example/", "must have no user name or password"),
        ("https://user:hunter2@a.example/", "must have no user name or password"),
        ("https://@a.example/", "must have no user name or password"),
        ("https://127.0.0.1\\\\@a.example/", "must have no user name or password"),
        ("https://a.example/#x", "must have no fragment"),
        ("https://a.example/#", "must have no fragment"),
        ("https://bücher.example/", ASCII),
        ("https://①②⑦.0.0.1/", ASCII),
        ("https://a.example/ x", ASCII),
        (" https://a.example/", ASCII),
        ("https://a.example/\\n", ASCII),
        ("https://a.exa\\tmple/", ASCII),
        ("https://a.example/\\u007f", ASCII),
        ("https://-a/", NO_HOST),
        ("https://a-.example/", NO_HOST),
        ("https://a..example/", NO_HOST),
        ("https://.example/", NO_HOST),
        ("https://a\\\\b/", NO_HOST),
        ("https://a%2eb/", NO_HOST),
        ("https://%31%32%37.0.0.1/", NO_HOST),
        ("https://0177.0.0.1/", NO_HOST),
        ("https://256.0.0.1/", NO_HOST),
        ("https://[v1.a]/", NO_HOST),
        ("https://" + "a" * 64 + ".example/", NO_HOST),
        ("https://" + "a." * 127 + "ab/", NO_HOST),
        ("https://[::1", "is not a URL"),
        ("https://a.example:65536/", "is not a URL"),
        ("https://a.example:http/", "is not a URL"),
        ("https://a.example:-1/", "is not a URL"),
        ("https://a.example:0/", "must have a port from 1 to 65535"),
    ],
)
def test_bad_urls_are_refused(tmp_path, url, rule):
    assert _faults(_write(tmp_path, _table(url=f'"{url}"'))) == [f"endpoint 'a': url: {rule}"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["endpoint: there must be at least one [[endpoint]]"]),
        ("endpoint = []", ["endpoint: there must be at least one [[endpoint]]"]),
        ("endpoint = 7", ["endpoint: must be tables, each under [[endpoint]]"]),
        ("endpoint = [7]", ["endpoint: must be tables, each under [[endpoint]]"]),
        ('[endpoint]\nname = "a"', ["endpoint: must be tables, each under [[endpoint]]"]),
        (
            "colour = 7\n" + _table(),
            ["colour: is not known; there are private_hosts and [[endpoint]]"],
        ),
        ('private_hosts = "a"\n' + _table(), [f"private_hosts: {RULE_OF_TEXTS}"]),
        ("private_hosts = [7]\n" + _table(), [f"private_hosts: {RULE_OF_TEXTS}"]),
        (_table() + _table(), ["endpoint 'a': name: is taken by another endpoint"]),
        # Neither name was read, so the check can't compare them.
        (
            _table(name="7") + _table(name=None),
            [
                f"endpoint number 1: name: {RULE_OF_NAMES}",
                f"endpoint number 2: name: {RULE_OF_NAMES}",
            ],
        ),
    ],
)
def test_faults_of_the_whole_file_are_named(tmp_path, text, lines):
    assert _faults(_write(tmp_path, text)) == lines


def test_all_faults_are_named_at_once_without_a_secret(tmp_path):
    (tmp_path / "open").write_text(_secret(32, b"o"))
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "short").write_text(_secret(8, b"q"))
    (tmp_path / "short").chmod(0o600)
    (tmp_path / "bytes").write_bytes(b"whsec_\xff")
    (tmp_path / "bytes").chmod(0o600)
    text = "x = 1\nprivate_hosts = 1\n" + _table(
        name='"A"',
        url='"https://user:hunter2@a/"',
        secrets=f'["{_secret(8)}", "{_secret(66)}", "{SECRET}"]',
        secret_files=f'["open", "short", "bytes", "gone", "{_secret(32, b"f")}"]',
        types='["X", "Y"]',
        timeout="1",
        max_in_flight="0",
        colour="1",
    )
    lines = _faults(_write(tmp_path, text + _table(name="1", url=None)))
    assert lines == [
        "x: is not known; there are private_hosts and [[endpoint]]",
        f"private_hosts: {RULE_OF_TEXTS}",
        f"endpoint 'A': colour: {UNKNOWN_FIELD}",
        f"endpoint 'A': name: {RULE_OF_NAMES}",
        "endpoint 'A': url: must have no user name or password",
        f"endpoint 'A': secrets: {RULE_OF_SECRETS}",
        f"endpoint 'A': secrets: {RULE_OF_SECRETS}",
        (
            f"endpoint 'A': secret_files: {tmp_path}/open: its mode 0644 lets others at the"
            f" secrets; mend it: chmod g-w,o= {tmp_path}/open"
        ),
        f"endpoint 'A': secret_files: {RULE_OF_SECRETS}",
        f"endpoint 'A': secret_files: {tmp_path}/bytes is not UTF-8",
        f"endpoint 'A': secret_files: {tmp_path}/gone can't be read: No such file or directory",
        "endpoint 'A': secret_files: must be names of files; a secret itself belongs in secrets",
        *(f"endpoint 'A': types: '{kind}' {UNKNOWN_TYPE}" for kind in "XY"),
        "endpoint 'A': timeout: must be a duration with a unit, like 90s, 15m, 12h or 30d",
        "endpoint 'A': max_in_flight: must be a number from 1 to 256",
        f"endpoint number 2: name: {RULE_OF_NAMES}",
        "endpoint number 2: url: must be given",
    ]
    assert "hunter2" not in "".join(lines)
    assert not re.search(r"whsec_\w", "".join(lines))
    for byte in (b"s", b"o", b"q", b"f"):
        assert base64.b64encode(byte * 6).decode() not in "".join(lines)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": f'"{SECRET}"'},
        {"types": f'["{SECRET}"]'},
        {SECRET: "1"},
        {"secret_files": f'[" {SECRET}"]'},
        {"secret_files": f'["../{SECRET}"]'},
        {"url": f'"{SECRET}"'},
        {"timeout": f'"{SECRET}"'},
        {"x": f'{{"{SECRET}" = 1, "{SECRET}" = 2}}'},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path, fields):
    quoted = {name if name.isidentifier() else f'"{name}"': value for name, value in fields.items()}
    lines = _faults(_write(tmp_path, _table(**quoted)))
    assert SECRET.removeprefix("whsec_")[:8] not in "".join(lines)


def test_an_endpoint_shows_no_secret():
    assert "sss" not in repr(Endpoint("a", "https://a.example/", (b"s" * 32,)))


@pytest.mark.parametrize("mode", [0o601, 0o602, 0o604, 0o607])
def test_a_secret_file_that_other_users_can_read_is_refused(tmp_path, mode):
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "open").chmod(mode)
    lines = _faults(_write(tmp_path, _table(secret_files='["open"]')))
    assert lines == [
        (
            f"endpoint 'a': secret_files: {tmp_path}/open: its mode {mode:04o} lets others at the"
            f" secrets; mend it: chmod g-w,o= {tmp_path}/open"
        )
    ]


def test_a_file_of_endpoints_with_secrets_must_be_closed_to_other_users(tmp_path):
    path = _write(tmp_path, _table())
    path.chmod(0o644)
    assert _faults(path) == [
        f"secrets: {path}: its mode 0644 lets others at the secrets; mend it: chmod g-w,o= {path}"
    ]
    path.chmod(0o640)
    assert load_endpoints(path)
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    path.write_text(_table(secrets=None, secret_files='["secret"]'))
    path.chmod(0o644)
    assert load_endpoints(path), "the file of endpoints has no secret itself"


def test_a_secret_file_without_a_secret_is_refused(tmp_path):
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "empty").chmod(0o600)
    (line,) = _faults(_write(tmp_path, _table(secrets=None, secret_files='["empty"]')))
    assert line.startswith("endpoint 'a': secrets: there must be at least one")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "can't be read: No such file or directory"),
        (b"\xff", "is not UTF-8"),
        (f'[[endpoint]]\nsecrets = ["{SECRET}\n'.encode(), "is not TOML: "),
    ],
)
def test_files_that_are_not_toml_are_refused(tmp_path, content, rule):
    path = tmp_path / "endpoints.toml"
    if content is not None:
        path.write_bytes(content)
    (line,) = _faults(path)
    assert line.startswith(rule)
    assert SECRET not in line


def test_generated_secrets_are_accepted_and_differ(tmp_path):
    made = [new_secret() for _ in range(100)]
    assert len(set(made)) == 100
    (endpoint,) = load_endpoints(_write(tmp_path, _table(secrets=f'["{made[0]}", "{made[1]}"]')))
    assert endpoint.secrets == tuple(
        base64.b64decode(secret.removeprefix("whsec_")) for secret in made[:2]
    )
    assert {len(secret) for secret in endpoint.secrets} == {32}


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
    ]
    + [
        (host, False)
        for host in ("", "localhost.example", "0.0.0.0", "127.1", "::", "10.0.0.1", "a.localhost")
    ],
)
def test_the_host_names_of_this_machine_are_known(host, answer):
    assert is_loopback(host, mapped=False) is answer
