"""Settings come from variables or from a file. An error names the setting and the rule, and shows
no secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from session_authority.runtime.addresses import Listen
from session_authority.runtime.durations import parse_duration
from session_authority.runtime.settings import (
    PREFIX,
    Settings,
    SettingsError,
    Unsafe,
    load_settings,
)

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
DURATION_RULE = "must be a duration, like 90s, 15m, 12h, 30d or ISO 8601's PT15M"
ADDRESS_RULE = "must be HOST:PORT, like 127.0.0.1:50051 or [::1]:50051"
SECRET = "hunter2"

SetAll = Callable[..., None]


@pytest.fixture(autouse=True)
def put(monkeypatch: pytest.MonkeyPatch) -> SetAll:
    """Sets variables, named without their prefix. No other variables are set."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)

    def put_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(PREFIX + name, value)

    return put_all


@pytest.fixture
def put_file(put: SetAll, tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes the TOML file, and sets the variable that names it."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "settings.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        put(CONFIG=str(path))
        return path

    return write


def faults(**given: Any) -> list[str]:
    """The lines of the error that loading must raise, without the prefix."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**given)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(PREFIX) for line in lines), lines
    assert caught.value.__context__ is None or SECRET not in str(caught.value.__context__)
    return [line.removeprefix(PREFIX) for line in lines]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("0s", timedelta(0)),
        (" 15 m ", timedelta(minutes=15)),
        ("PT15M", timedelta(minutes=15)),
        ("PT1H30M", timedelta(minutes=90)),
        ("P30D", timedelta(days=30)),
        ("P1DT12H", timedelta(hours=36)),
        ("pt15m", timedelta(minutes=15)),
        ("PT0.25S", timedelta(milliseconds=250)),
    ],
)
def test_durations_are_read(text: str, duration: timedelta):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "s",
        "1.5h",
        "-5m",
        "1h30m",
        "5 minutes",
        "15M",
        "1w",
        "１s",
        "90s\n5m",
        "P",
        "PT",
        "P1X",
        "0x10s",
        "never",
    ],
)
def test_a_malformed_duration_is_refused(text: str):
    with pytest.raises(ValueError, match=r"must be a duration"):
        parse_duration(text)


def test_a_duration_that_is_too_long_for_a_clock_is_refused():
    for text in ("99999999999d", "9" * 400 + "s"):
        with pytest.raises(ValueError, match=r"is too long|must be a duration"):
            parse_duration(text)


@pytest.mark.parametrize("value", [90, 1.5, True, None, ["15m"]])
def test_a_number_alone_is_no_duration(value: object):
    with pytest.raises(ValueError, match="with a unit"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051, True),
        ("127.8.9.1:1", "127.8.9.1", 1, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:65535", "::1", 65535, True),
        ("LOCALHOST:1", "LOCALHOST", 1, True),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, True),
        ("127.0.0.999:1", "127.0.0.999", 1, False),
        ("[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1", 1, False),
        ("0.0.0.0:50051", "0.0.0.0", 50051, False),
        ("[::]:50051", "::", 50051, False),
        ("10.0.0.1:50051", "10.0.0.1", 50051, False),
        ("127.0.0.1.example.org:50051", "127.0.0.1.example.org", 50051, False),
        ("localhost.example.org:50051", "localhost.example.org", 50051, False),
    ],
)
def test_addresses_are_read(text: str, host: str, port: int, loopback: bool):
    listen = Listen.parse(text)
    assert (listen.host, listen.port, listen.is_loopback, str(listen)) == (
        host,
        port,
        loopback,
        text,
    )


@pytest.mark.parametrize(
    "text",
    ["", "50051", ":50051", "127.0.0.1", "127.0.0.1:", "::1:50051", "h:-1", "h:1 ", "h:１", "h:x"],
)
def test_a_malformed_address_is_refused(put: SetAll, text: str):
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        Listen.parse(text)
    if text:
        put(LISTEN=text)
        assert faults() == [f"LISTEN: {ADDRESS_RULE}"]


def test_every_setting_has_a_default_that_is_consistent():
    settings = load_settings()
    assert settings == Settings()
    assert not [name for name, field in Settings.model_fields.items() if field.is_required()]
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 50051)
    assert (settings.redis_url, settings.keys, settings.metrics_listen) == (None, None, None)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_on_its_page_with_its_default(name: str):
    rows = [line.split("|")[1:] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    [row] = [row for row in rows if f"`{name.upper()}`" in row[0]]
    default, shown = Settings.model_fields[name].default, row[1].strip().strip("`")
    if default is None or default == frozenset():
        assert shown == "–"
    elif isinstance(default, bool):
        assert shown == str(default).lower()
    elif isinstance(default, timedelta):
        assert parse_duration(shown) == default
    else:
        assert shown == str(getattr(default, "value", default))


def test_variables_are_read(put: SetAll):
    put(
        TOKEN_TTL="2h",
        MAX_DEVICES="7",
        REPLAY_ACTION="deny",
        LISTEN="[::1]:1",
        KEYS="/keys",
        REDIS_URL="redis://h",
    )
    settings = load_settings()
    assert (settings.token_ttl, settings.max_devices, str(settings.listen)) == (
        timedelta(hours=2),
        7,
        "[::1]:1",
    )
    assert settings.session_limits().replay_action.value == "deny"
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://h"


def test_arguments_win_over_variables_and_variables_over_the_file(
    put: SetAll, put_file: Callable[[str], Path]
):
    put_file(
        'LISTEN = "127.0.0.1:1"\ntoken_ttl = "3h"\nMax_Devices = 3\nSESSION_AUTHORITY_WORKERS = 2'
    )
    put(LISTEN="127.0.0.1:2", TOKEN_TTL="2h")
    settings = load_settings(listen="127.0.0.1:3")
    assert (settings.listen.port, settings.token_ttl) == (3, timedelta(hours=2))
    assert (settings.max_devices, settings.workers) == (3, 2)


def test_variables_that_kubernetes_sets_for_a_service_of_this_name_are_ignored(put: SetAll):
    put(
        SERVICE_HOST="10.0.0.1",
        SERVICE_PORT="50051",
        SERVICE_PORT_GRPC="50051",
        PORT="tcp://10.0.0.1:50051",
    )
    put(
        PORT_50051_TCP="tcp://10.0.0.1:50051",
        PORT_50051_TCP_ADDR="10.0.0.1",
        PORT_50051_TCP_PROTO="tcp",
    )
    assert load_settings() == Settings()
    put(PORTS="50051")
    assert faults() == ["PORTS: is not a setting"]


def test_an_empty_variable_is_not_set(put: SetAll):
    put(KEYS="", REDIS_URL="", LISTEN="", TOKEN_TTL="", METRICS_LISTEN="", CONFIG="")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("TOKEN_TTL", "soon", DURATION_RULE),
        ("TOKEN_TTL", "0s", "must be longer than zero"),
        ("GRACE", "-1s", DURATION_RULE),
        ("GRACE", "-PT1S", DURATION_RULE),
        ("DRAIN_TIMEOUT", "P-1D", DURATION_RULE),
        ("SESSION_TTL", "9999999999999d", "is too long"),
        ("EVENT_MEMORY", "3599s", "must be from 1h to 30d"),
        ("EVENT_MEMORY", "721h", "must be from 1h to 30d"),
        ("MAX_DEVICES", "0", "Input should be greater than or equal to 1"),
        ("REDIS_CONNECTIONS", "1", "Input should be greater than or equal to 8"),
        (
            "WORKERS",
            "many",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        ("REPLAY_ACTION", "explode", "Input should be 'revoke_all', 'revoke_device' or 'deny'"),
        ("DEVICE_LIMIT_ACTION", "explode", "Input should be 'evict_oldest' or 'reject'"),
        ("ACCEPTOR", "uvicorn", "Input should be 'standing' or 'stock'"),
        ("LOG_LEVEL", "loud", "Input should be 'debug', 'info', 'warning' or 'error'"),
        ("LISTEN", "127.0.0.1:65536", "must have a port up to 65535"),
        ("METRICS_LISTEN", "9090", ADDRESS_RULE),
        ("REDIS_PREFIX", "s a", "must be 1 to 32 letters, digits, '_', '.' or '-'"),
        ("REDIS_PREFIX", "{sa}", "must be 1 to 32 letters, digits, '_', '.' or '-'"),
        ("ISSUER", "x" * 201, "must be 1 to 200 characters of ASCII without white space"),
        ("AUDIENCE", "ex ample", "must be 1 to 200 characters of ASCII without white space"),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(put: SetAll, name: str, value: str, rule: str):
    put(**{name: value})
    assert faults() == [f"{name}: {rule}"]


def test_all_wrong_settings_are_named_at_once(put: SetAll, put_file: Callable[[str], Path]):
    put_file("max_devices = 0\nfoo = 1\n[table]\nx = 1\n")
    put(TOKEN_TTL="soon", BAR="1", LISTENS="127.0.0.1:1")
    assert sorted(faults()) == [
        "BAR: is not a setting",
        "FOO: is not a setting",
        "LISTENS: is not a setting",
        "MAX_DEVICES: Input should be greater than or equal to 1",
        "TABLE: is not a setting",
        f"TOKEN_TTL: {DURATION_RULE}",
    ]


TOGETHER = "GRACE and DURABLE_AFTER together must be at most ALARM_AFTER"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"GRACE": "121s"}, [TOGETHER]),
        ({"DURABLE_AFTER": "271s"}, [TOGETHER]),
        ({"ALARM_AFTER": "31m"}, ["ALARM_AFTER must be at most half of TOKEN_TTL"]),
        ({"TOKEN_TTL": "9m"}, ["ALARM_AFTER must be at most half of TOKEN_TTL"]),
        ({"SESSION_TTL": "59m"}, ["TOKEN_TTL must be at most SESSION_TTL"]),
        (
            {"REPLICAS_ACK": "1", "REDIS_TIMEOUT": "500ms"},
            [
                (
                    "REPLICAS_TIMEOUT must be shorter than REDIS_TIMEOUT, after which the primary"
                    " itself counts as away"
                )
            ],
        ),
        ({"SESSION_TTL": "401d"}, ["SESSION_TTL must be at most 400d"]),
        (
            {"IDLE_TIMEOUT": "59m"},
            [
                (
                    "TOKEN_TTL must be at most IDLE_TIMEOUT, or tokens outlast the idle sessions"
                    " that they speak of"
                )
            ],
        ),
        (
            {
                "IDLE_TIMEOUT": "119s",
                "TOKEN_TTL": "119s",
                "ALARM_AFTER": "50s",
                "DURABLE_AFTER": "20s",
            },
            [
                (
                    "IDLE_TIMEOUT must be at least twice TOUCH_INTERVAL, by which last-seen times"
                    " lag behind"
                )
            ],
        ),
        (
            {"TOKEN_TTL": "1s", "ALARM_AFTER": "500ms", "GRACE": "0s", "DURABLE_AFTER": "0s"},
            ["TOKEN_TTL must be at least 2s: tokens tell time in whole seconds"],
        ),
        (
            {"GRACE": "20m", "ALARM_AFTER": "10m", "TOKEN_TTL": "10m", "SESSION_TTL": "5m"},
            [
                TOGETHER,
                "ALARM_AFTER must be at most half of TOKEN_TTL",
                "TOKEN_TTL must be at most SESSION_TTL",
            ],
        ),
    ],
    ids=lambda value: "-".join(value),
)
def test_settings_that_contradict_each_other_are_refused(
    put: SetAll, values: dict[str, str], expected: list[str]
):
    put(**values)
    assert faults() == expected


def test_a_file_that_cannot_be_read_is_refused(
    put: SetAll, put_file: Callable[[str | bytes], Path], tmp_path: Path
):
    put(CONFIG=str(tmp_path / "missing.toml"), FOO="1")
    assert faults() == [
        "FOO: is not a setting",
        f"CONFIG: there is no file {tmp_path / 'missing.toml'}",
    ]
    put(CONFIG=str(tmp_path))
    assert faults() == ["FOO: is not a setting", f"CONFIG: there is no file {tmp_path}"]


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ("token_ttl 1h", "CONFIG: {path} is not TOML: "),
        (f'redis_url = "redis://:{SECRET}@h\n', "CONFIG: {path} is not TOML: "),
        (f"redis_url = {SECRET}", "CONFIG: {path} is not TOML: "),
        (b'issuer = "\xff"', "CONFIG: {path} is not UTF-8"),
        ('token_ttl = "1h"\nTOKEN_TTL = "2h"', "TOKEN_TTL: is given twice"),
        ("token_ttl = 90", "TOKEN_TTL: must be a duration with a unit, like 90s, 15m, 12h or 30d"),
        ('keys = ""', "KEYS: must not be empty"),
        (
            f'tls_key = """-----BEGIN PRIVATE KEY-----\n{SECRET}"""',
            "TLS_KEY: must be the name of a file or folder",
        ),
        ('config = "other.toml"', "CONFIG: is not a setting"),
    ],
)
def test_a_file_with_a_fault_is_refused(
    put_file: Callable[[str | bytes], Path], content: str | bytes, start: str
):
    path = put_file(content)
    [fault] = faults()
    assert fault.startswith(start.format(path=path))
    assert SECRET not in fault


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_value_is_shown_in_an_error(put_file: Callable[[str], Path], name: str):
    """This holds for every setting that a secret may be written into by mistake."""
    put_file(f'{name} = ["redis://:{SECRET}@h"]\n{SECRET[:-1]}x = "{SECRET}"')
    assert SECRET not in "\n".join(faults())


def test_the_loaded_settings_show_no_secret(put: SetAll):
    put(REDIS_URL=f"redis://:{SECRET}@h")
    settings = load_settings()
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()}"


# --- access ---------------------------------------------------------------------------------------

PAIR = {"TLS_CERTIFICATE": "c.pem", "TLS_KEY": "k.pem"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"TLS_KEY": "k.pem"}, ["TLS_CERTIFICATE and TLS_KEY must be set together"]),
        (
            {"TLS_CLIENT_CA": "a.pem"},
            ["TLS_CLIENT_CA needs TLS_CERTIFICATE and TLS_KEY"],
        ),
        (
            {**PAIR, "BEARER_LISTEN": "127.0.0.1:1"},
            [
                (
                    "BEARER_LISTEN needs TLS_CLIENT_CA; without TLS_CLIENT_CA, LISTEN itself takes"
                    " bearer tokens"
                )
            ],
        ),
        (
            {"CALLER_TOKENS": "t"},
            ["CALLER_TOKENS needs ACCESS_POLICY, which says what their callers may do"],
        ),
        (
            {"LISTEN": "127.0.0.1:7", "HEALTH_LISTEN": "127.0.0.1:7"},
            ["LISTEN and HEALTH_LISTEN must not both have the port 7"],
        ),
        (
            {"LISTEN": "0.0.0.0:7", "HEALTH_LISTEN": "127.0.0.1:7"},
            ["LISTEN and HEALTH_LISTEN must not both have the port 7"],
        ),
        (
            {"LISTEN": "127.0.0.1:7", "METRICS_LISTEN": "[::]:7"},
            ["LISTEN and METRICS_LISTEN must not both have the port 7"],
        ),
        ({"LISTEN": "127.0.0.1:9", "METRICS_LISTEN": "[::]:7", "WORKERS": "3"}, []),
        ({"METRICS_TLS": "true"}, ["METRICS_TLS needs TLS_CERTIFICATE and TLS_KEY"]),
        ({"LISTEN": "127.0.0.1:7", "HEALTH_LISTEN": "127.0.0.2:7"}, []),
        ({"LISTEN": "127.0.0.1:0", "HEALTH_LISTEN": "127.0.0.1:0"}, []),
        (
            {
                **PAIR,
                "TLS_CLIENT_CA": "a.pem",
                "BEARER_LISTEN": "127.0.0.1:8",
                "ACCESS_POLICY": "p",
            },
            [],
        ),
        ({"ALLOW_UNSAFE": "nonsense"}, None),
        ({"ASSURANCE": "aal4"}, None),
    ],
)
def test_settings_for_access_that_do_not_fit_together_are_refused(
    put: SetAll, given: dict[str, str], expected: list[str] | None
):
    put(**given)
    if expected == []:
        load_settings()
    elif expected is None:
        [fault] = faults()
        assert fault.startswith(f"{next(iter(given))}: Input should be ")
    else:
        assert faults() == expected


def test_a_level_of_assurance_sets_the_settings_that_nobody_set(
    put: SetAll, put_file: Callable[[str], Path]
):
    put(ASSURANCE="aal3")
    settings = load_settings()
    assert (settings.token_ttl, settings.session_ttl, settings.idle_timeout) == (
        timedelta(minutes=15), timedelta(hours=12), timedelta(minutes=15),
    )  # fmt: skip
    assert settings.beside_preset() == {}
    put_file('IDLE_TIMEOUT = "20m"')
    put(SESSION_TTL="1h")
    settings = load_settings()
    assert (settings.session_ttl, settings.idle_timeout) == (
        timedelta(hours=1),
        timedelta(minutes=20),
    )
    assert settings.beside_preset() == {
        "session_ttl": (timedelta(hours=1), timedelta(hours=12)),
        "idle_timeout": (timedelta(minutes=20), timedelta(minutes=15)),
    }


def test_names_in_access_settings_are_checked(put: SetAll, put_file: Callable[[str], Path]):
    put_file('allow_unsafe = ["plaintext"]')
    assert load_settings().allow_unsafe == {Unsafe.PLAINTEXT}
    put(ALLOW_UNSAFE=" open-access , short-grace,")
    assert load_settings().allow_unsafe == {Unsafe.OPEN_ACCESS, Unsafe.SHORT_GRACE}
