"""Reads the settings of the service from environment variables (`SESSION_AUTHORITY_*`), and from a
TOML file in which the settings have the same names. An environment variable has priority over the
same setting in the TOML file.

No other module reads the variables `SESSION_AUTHORITY_*`. All faults are reported together, each
with the name of the setting and the rule that it breaks. A rule about several settings is checked
only if each setting is valid by itself. The value of a secret setting is never shown.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.session_limits import (
    MAX_SESSION_TTL,
    DeviceLimitAction,
    ReplayAction,
    ReplayAlarm,
    SessionLimits,
)
from session_authority.runtime.addresses import Listen
from session_authority.runtime.assurance_levels import PRESETS, Assurance
from session_authority.runtime.durations import Duration
from session_authority.runtime.event_loops import EventLoop
from session_authority.runtime.tracing import TracingMode

PREFIX = "SESSION_AUTHORITY_"
CONFIG_FILE_VARIABLE = f"{PREFIX}CONFIG"

_SERVICE_LINK = re.compile(
    r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?", re.ASCII
)
# Matches a value that is the content of a file, and not the name of a file. The content of a file
# is recognized if it is PEM, JSON, a caller's token, an endpoint's secret, or a text of several
# lines.
_CONTENT = re.compile(r"-----BEGIN |\{|sacall_|whsec_|.*\n", re.ASCII)


class SettingsError(Exception):
    """The settings can't be used. The message has a line for each fault."""


class Unsafe(Enum):
    """The names of unsafe configurations. The command `serve` starts with an unsafe configuration
    only if the setting ALLOW_UNSAFE contains the name of this configuration.
    """

    PLAINTEXT = "plaintext"
    OPEN_ACCESS = "open-access"
    PLAINTEXT_STORE = "plaintext-store"
    EVICTING_STORE = "evicting-store"
    VOLATILE_STORE = "volatile-store"
    EXPOSED_SECRETS = "exposed-secrets"
    SHORT_GRACE = "short-grace"


class Acceptor(Enum):
    """The ways to accept the calls of the busiest methods. STANDING means standing tasks, and STOCK
    means the code of grpc.aio.
    """

    STANDING = "standing"
    STOCK = "stock"


def _listen(value: object) -> object:
    return Listen.parse(value)


def _folder(value: object) -> object:
    if value == "":  # Path would take "" for the current folder
        raise ValueError("must not be empty")
    # The content of a file may be a secret. If the content were accepted as the name of a file, a
    # later error message would show the secret as the name of a missing file.
    if isinstance(value, str) and _CONTENT.match(value):
        raise ValueError("must be the name of a file or folder, not what is in it")
    return value


def _names(value: object) -> object:
    """Splits the text `a, b` into a list. Returns a list unchanged."""
    return (
        [name.strip() for name in value.split(",") if name.strip()]
        if isinstance(value, str)
        else value
    )


def _matching(pattern: str, rule: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(rule)
        return value

    return AfterValidator(check)


Address = Annotated[Any, BeforeValidator(_listen)]
Folder = Annotated[Path, BeforeValidator(_folder)]
UnsafeNames = Annotated[frozenset[Unsafe], NoDecode, BeforeValidator(_names)]

# The type of ISSUER and AUDIENCE. The length is limited because every token contains both names,
# and a token may have at most 4 KiB.
Name = Annotated[
    str, _matching(r"[!-~]{1,200}", "must be 1 to 200 characters of ASCII without white space")
]
Prefix = Annotated[
    str, _matching(r"[A-Za-z0-9_.\-]{1,32}", "must be 1 to 32 letters, digits, '_', '.' or '-'")
]


class Settings(BaseSettings):
    """All settings of the service, with their defaults. docs/settings.md explains each setting."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,  # Compose passes an unset variable on as an empty text
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    listen: Address = Listen("127.0.0.1", 50051)
    bearer_listen: Address | None = None
    health_listen: Address | None = None
    tls_certificate: Folder | None = None
    tls_key: Folder | None = None
    tls_client_ca: Folder | None = None
    access_policy: Folder | None = None
    caller_tokens: Folder | None = None
    allow_unsafe: UnsafeNames = frozenset()
    redis_url: SecretStr | None = None
    redis_prefix: Prefix = "sa"
    redis_timeout: Duration = timedelta(seconds=1)
    redis_connections: Annotated[int, Field(ge=8, le=10_000)] = 64
    replicas_ack: Annotated[int, Field(ge=0, le=16)] = 0
    replicas_timeout: Duration = timedelta(milliseconds=500)
    keys: Folder | None = None
    issuer: Name = "session-authority"
    audience: Name = "session-authority"
    assurance: Assurance | None = None
    token_ttl: Duration = timedelta(hours=1)
    session_ttl: Duration = timedelta(days=30)
    idle_timeout: Duration = timedelta(days=7)
    grace: Duration = timedelta(seconds=30)
    durable_after: Duration = timedelta(minutes=3)
    alarm_after: Duration = timedelta(minutes=5)
    replay_alarm: ReplayAlarm = ReplayAlarm.PRESENTED
    replay_action: ReplayAction = ReplayAction.REVOKE_ALL
    max_devices: Annotated[int, Field(ge=1, le=10_000)] = 100
    device_limit_action: DeviceLimitAction = DeviceLimitAction.EVICT_OLDEST
    touch_interval: Duration = timedelta(seconds=60)
    event_memory: Duration = timedelta(days=7)
    geoip_database: Folder | None = None
    store_addresses: AddressDetail = AddressDetail.FULL
    reflection: bool = False
    acceptor: Acceptor = Acceptor.STANDING
    event_loop: EventLoop = EventLoop.UVLOOP
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 256
    max_per_connection: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_connections: Annotated[int, Field(ge=16, le=100_000)] = 2000
    max_watchers: Annotated[int, Field(ge=1, le=100_000)] = 1000
    relay_endpoints: Folder | None = None
    gateway_config: Folder | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    drain_timeout: Duration = timedelta(seconds=10)
    metrics_listen: Address | None = None
    metrics_tls: bool = False
    metrics_token_file: Folder | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False
    audit_log: Folder | None = None
    tracing: TracingMode = TracingMode.OFF

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns the sources of settings. The first source that contains a setting has priority.
        The sources are the command line, environment variables, the TOML file, and the preset of
        the assurance level, in this order.
        """
        assert isinstance(init_settings, InitSettingsSource)
        file = config_file()
        files = (_TomlFile(settings_cls, file),) if file else ()
        return (init_settings, env_settings, *files, _Preset(settings_cls))

    @field_validator(
        "token_ttl",
        "session_ttl",
        "idle_timeout",
        "alarm_after",
        "redis_timeout",
        "replicas_timeout",
    )
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than zero")
        return value

    @field_validator("grace", "durable_after", "touch_interval", "drain_timeout")
    @classmethod
    def _not_negative(cls, value: timedelta) -> timedelta:
        if value < timedelta(0):
            raise ValueError("must not be negative")
        return value

    @field_validator("event_memory")
    @classmethod
    def _from_an_hour_to_a_month(cls, value: timedelta) -> timedelta:
        if not timedelta(hours=1) <= value <= timedelta(days=30):
            raise ValueError("must be from 1h to 30d")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        if self.token_ttl < timedelta(seconds=2):
            faults.append("TOKEN_TTL must be at least 2s: tokens tell time in whole seconds")
        if self.grace + self.durable_after > self.alarm_after:
            faults.append("GRACE and DURABLE_AFTER together must be at most ALARM_AFTER")
        if self.alarm_after > self.token_ttl / 2:
            faults.append("ALARM_AFTER must be at most half of TOKEN_TTL")
        if self.token_ttl > self.session_ttl:
            faults.append("TOKEN_TTL must be at most SESSION_TTL")
        if self.token_ttl > self.idle_timeout:
            faults.append(
                "TOKEN_TTL must be at most IDLE_TIMEOUT, or tokens outlast the idle sessions that"
                " they speak of"
            )
        if self.session_ttl > MAX_SESSION_TTL:
            faults.append(f"SESSION_TTL must be at most {MAX_SESSION_TTL.days}d")
        if self.idle_timeout < 2 * self.touch_interval:
            faults.append(
                "IDLE_TIMEOUT must be at least twice TOUCH_INTERVAL, by which last-seen times lag"
                " behind"
            )
        if self.replicas_ack and self.replicas_timeout >= self.redis_timeout:
            faults.append(
                "REPLICAS_TIMEOUT must be shorter than REDIS_TIMEOUT, after which the primary"
                " itself counts as away"
            )
        faults += self._listen_faults()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _listen_faults(self) -> list[str]:
        """Returns the faults of the settings for ports and callers."""
        faults = []
        if (self.tls_certificate is None) != (self.tls_key is None):
            faults.append("TLS_CERTIFICATE and TLS_KEY must be set together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            faults.append("TLS_CLIENT_CA needs TLS_CERTIFICATE and TLS_KEY")
        if self.metrics_tls and (self.tls_certificate is None or self.tls_key is None):
            faults.append("METRICS_TLS needs TLS_CERTIFICATE and TLS_KEY")
        if self.bearer_listen is not None and self.tls_client_ca is None:
            faults.append(
                "BEARER_LISTEN needs TLS_CLIENT_CA; without TLS_CLIENT_CA, LISTEN itself takes"
                " bearer tokens"
            )
        faults += self._shared_ports()
        if self.caller_tokens is not None and self.access_policy is None:
            faults.append("CALLER_TOKENS needs ACCESS_POLICY, which says what their callers may do")
        return faults

    def _shared_ports(self) -> list[str]:
        """Returns a fault for each pair of settings that use the same port. With several workers,
        the system would accept both uses of the port, and would distribute the connections between
        the two uses.
        """
        ports = [
            (name, listen.host, listen.port)
            for name in ("listen", "bearer_listen", "health_listen", "metrics_listen")
            if (listen := getattr(self, name)) is not None and listen.port
        ]
        everywhere = {"0.0.0.0", "::"}  # noqa: S104 - these addresses are only compared
        return [
            f"{name.upper()} and {other.upper()} must not both have the port {port}"
            for index, (name, host, port) in enumerate(ports)
            for other, other_host, other_port in ports[index + 1 :]
            if name != other
            and port == other_port
            and (host == other_host or everywhere & {host, other_host})
        ]

    def beside_preset(self) -> dict[str, tuple[timedelta, timedelta]]:
        """Returns the settings that differ from the preset of the assurance level. The result maps
        the name of each setting to a pair: the value of the setting, and the value in the preset.
        Returns nothing if no assurance level is set.
        """
        preset = PRESETS[self.assurance] if self.assurance is not None else {}
        return {
            name: (getattr(self, name), value)
            for name, value in preset.items()
            if getattr(self, name) != value
        }

    def session_limits(self) -> SessionLimits:
        """Returns the settings that the rules in the package `domain` need."""
        return SessionLimits(
            token_ttl=self.token_ttl,
            session_ttl=self.session_ttl,
            idle_timeout=self.idle_timeout,
            grace=self.grace,
            durable_after=self.durable_after,
            alarm_after=self.alarm_after,
            replay_alarm=self.replay_alarm,
            replay_action=self.replay_action,
            max_devices=self.max_devices,
            device_limit_action=self.device_limit_action,
            touch_interval=self.touch_interval,
        )


class _Preset(PydanticBaseSettingsSource):
    """A source of settings that contains the preset of the assurance level. The preset applies only
    to settings that no other source contains.
    """

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Returns the value of one setting in the preset, or None if the preset does not contain
        the setting.
        """
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("assurance")
        level = next((level for level in Assurance if named in (level, level.value)), None)
        return dict(PRESETS[level]) if level is not None else {}


class _TomlFile(TomlConfigSettingsSource):
    """A source of settings that reads the TOML file. The names of settings may be in any case, with
    or without the prefix: `token_ttl`, `TOKEN_TTL` or `SESSION_AUTHORITY_TOKEN_TTL`.
    """

    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        try:
            is_file = path.is_file()
        except OSError as error:
            raise SettingsError(
                f"{CONFIG_FILE_VARIABLE}: can't read the file that it names: {error.strerror}"
            ) from None
        if not is_file:
            raise SettingsError(f"{CONFIG_FILE_VARIABLE}: there is no file {path}")
        try:
            super().__init__(settings_cls, toml_file=path)
        except OSError as error:
            raise SettingsError(
                f"{CONFIG_FILE_VARIABLE}: can't read {path}: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(f"{CONFIG_FILE_VARIABLE}: {path} is not UTF-8") from None
        except ValueError as error:
            raise SettingsError(f"{CONFIG_FILE_VARIABLE}: {path} is not TOML: {error}") from None

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for given, value in self.toml_data.items():
            name = given.lower().removeprefix(PREFIX.lower())
            if name in found:
                raise SettingsError(f"{PREFIX}{name.upper()}: is given twice")
            found[name] = value
        return found


def config_file() -> Path | None:
    """Returns the path of the TOML file of settings, or None if the variable
    SESSION_AUTHORITY_CONFIG names no file.
    """
    file = os.environ.get(CONFIG_FILE_VARIABLE)
    return Path(file) if file else None


def load_settings(**given: Any) -> Settings:
    """Loads the settings. A value in `given` has priority over all other sources, but None counts
    as no value. Raises SettingsError with all faults that were found.
    """
    faults = [
        f"{name}: is not a setting"
        for name in sorted(os.environ)
        if name.startswith(PREFIX)
        and name != CONFIG_FILE_VARIABLE
        and not _is_known(name.removeprefix(PREFIX))
    ]
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults += _faults(error)
    except SettingsError as error:  # The fault is in the TOML file.
        faults.append(str(error))
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _is_known(name: str) -> bool:
    """Returns True if `name` is a setting. Also returns True for a variable that Kubernetes sets in
    every pod if there is a Kubernetes Service with the name session-authority.
    """
    return name.lower() in Settings.model_fields or _SERVICE_LINK.fullmatch(name) is not None


def _faults(error: ValidationError) -> list[str]:
    found = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        text = fault["msg"].removeprefix("Value error, ")
        name = PREFIX + str(fault["loc"][0]).upper() if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            text = "is not a setting"
        found += [f"{name}: {text}"] if name else [f"{PREFIX}{line}" for line in text.splitlines()]
    return found
