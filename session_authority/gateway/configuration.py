"""Reads the gateway's configuration file, a TOML file with the listeners, the address of the
service, the settings of the flow, and the apps.

If the file has faults, the error names many faults at once, each with its field and the rule that
the field breaks. A rule about several fields of a table is checked only if each field of the table
is valid by itself. The configuration file contains no secret. The configuration only names the
files that contain the gateway's token and private key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from session_authority.gateway.oauth_callers import OAuthCaller, OAuthCallers
from session_authority.gateway.routes import Routes
from session_authority.runtime.addresses import Listen
from session_authority.runtime.durations import Duration
from session_authority.runtime.files import exposure
from session_authority.runtime.toml_files import faults_of, raise_faults, read_toml
from session_authority_client import NearCache
from session_authority_client.cookies import Cookies, SameSite
from session_authority_client.devices import DevicesPage
from session_authority_client.environment import Credentials, credentials_from_environment
from session_authority_client.flow import Flow

_T = TypeVar("_T")
_HEX = r"^[0-9a-f]{64}$"
_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"


class GatewayConfigError(Exception):
    """The configuration file has faults. The text of the error has a line for each fault."""


@dataclass(frozen=True, slots=True)
class _Context:
    folder: Path


def _path(value: object, info: ValidationInfo) -> Path:
    """Returns the path of a file that the configuration names. A relative path starts at the folder
    of the configuration file.
    """
    assert isinstance(info.context, _Context)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a file")
    return info.context.folder / value


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from None
    return path


def _secret(path: Path) -> Path:
    raise_faults(exposure(_file(path), "the secret"))
    return path


_File = Annotated[Path, BeforeValidator(_path), AfterValidator(_file)]
_SecretFile = Annotated[Path, BeforeValidator(_path), AfterValidator(_secret)]
_Path = Annotated[Path, BeforeValidator(_path)]
_Address = Annotated[Listen, BeforeValidator(Listen.parse)]


_Hash = Annotated[str, Field(pattern=_HEX)]


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True
    )


class AuthorityTable(_Table):
    """The address of the service, and the credentials that the gateway presents to the service.

    `near_cache` is the largest number of sessions in the gateway's near cache. If `near_cache` is
    0, the gateway asks the service about each request. `timeout` is the time limit of one call to
    the service.
    """

    address: Annotated[str, Field(min_length=1)]
    ca: _File | None = None
    certificate: _File | None = None
    key: _SecretFile | None = None
    token_file: _SecretFile | None = None
    timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=60))] = timedelta(
        milliseconds=300
    )
    near_cache: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    near_cache_max_age: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=60)

    @model_validator(mode="after")
    def _credentials(self) -> AuthorityTable:
        try:
            self.credentials()
        except ValueError as error:
            told = str(error)
            for name in ("CA", "CERT", "KEY", "TOKEN_FILE"):
                told = told.replace(f"AUTHORITY_{name}", _VARIABLES[name])
            raise ValueError(told) from None
        return self

    def credentials(self) -> Credentials:
        """Returns the credentials that the gateway presents to the service. Raises ValueError if a
        file has the wrong contents, or if a certificate or a key lacks its counterpart. Raises
        OSError if a file can't be read.
        """
        given = {
            f"AUTHORITY_{name}": str(getattr(self, field))
            for name, field in _VARIABLES.items()
            if getattr(self, field) is not None
        }
        return credentials_from_environment(given)

    def cache(self) -> NearCache | None:
        """Returns a new near cache, or None if the setting `near_cache` is 0."""
        if not self.near_cache:
            return None
        return NearCache(max_entries=self.near_cache, max_age=self.near_cache_max_age)


_VARIABLES = {"CA": "ca", "CERT": "certificate", "KEY": "key", "TOKEN_FILE": "token_file"}


class ListenTable(_Table):
    """The addresses at which one protocol is served: a host and port, a unix socket, or both."""

    listen: _Address | None = None
    unix_socket: _Path | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> ListenTable:
        if self.listen is None and self.unix_socket is None:
            raise ValueError("listen or unix_socket must be set")
        return self


class GrpcTable(ListenTable):
    """The addresses at which Envoy calls the gateway over gRPC.

    `on_outage` says what Envoy gets while the service gives no answer. With "abort", Envoy's call
    fails. After this failure, Envoy applies its settings `status_on_error` and
    `failure_mode_allow`. With "response", Envoy gets an error response with the status 503. Envoy
    understands such a response from version 1.37 on, and sends this response to the client if
    `failure_mode_allow` is false.
    """

    on_outage: Literal["abort", "response"] = "abort"


class CookiesTable(_Table):
    """The settings of the cookies, which mean the same as in the Python client's `Cookies`."""

    token: str = "session"
    device: str = "device"
    same_site: Literal["Strict", "Lax"] = "Strict"
    device_same_site: Literal["Strict", "Lax"] | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _checked(self) -> CookiesTable:
        self.cookies()
        return self

    def cookies(self) -> Cookies:
        """Returns the `Cookies` with these settings. Raises ValueError if a setting is not
        valid.
        """
        rule = self.device_same_site
        return Cookies(
            token=self.token,
            device=self.device,
            same_site=SameSite(self.same_site),
            insecure=self.insecure,
            device_same_site=SameSite(rule) if rule else None,
        )


class DevicesTable(_Table):
    """Settings of the page on which users see their devices. The settings mean the same as in the
    Python client's `DevicesPage`.
    """

    path: str = "/devices"
    secure_account_url: str | None = None
    language: str = ""
    time_zone: str = ""
    scripted: bool = False

    @model_validator(mode="after")
    def _checked(self) -> DevicesTable:
        self.page()
        return self

    def page(self) -> DevicesPage:
        """Returns the page of devices with these settings. Raises ValueError if a setting is not
        valid, or if a library for the page is not installed.
        """
        try:
            return DevicesPage(**self.model_dump())
        except (ImportError, TypeError) as error:
            raise ValueError(str(error)) from None


class FlowTable(_Table):
    """Settings of the flow, which mean the same as in the Python client's `Flow`."""

    sign_in_url: str | None = None
    trusted_proxies: list[str] = []
    device_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "X-Device-Id"
    bearer: bool = True
    check_origin: bool = True
    trusted_origins: list[str] = []
    return_paths: list[str] = []
    passive_paths: list[str] = []
    cookies: CookiesTable = CookiesTable()

    @field_validator(
        "sign_in_url", "trusted_proxies", "trusted_origins", "return_paths", "passive_paths"
    )
    @classmethod
    def _alone(cls, value: _T, info: ValidationInfo) -> _T:
        """Checks a field without the other fields, so that the error names the faults of all fields
        at once.
        """
        name = str(info.field_name)
        try:
            Flow(**{name: value})  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"{name}: ")) from None
        return value

    def flow(self, devices: DevicesTable | None) -> Flow:
        """Returns the flow with these settings, and with the page of devices if `devices` is not
        None.
        """
        return Flow(
            cookies=self.cookies.cookies(),
            devices=None if devices is None else devices.page(),
            **self.model_dump(exclude={"cookies"}),
        )


class AppTable(_Table):
    """An app behind the proxies. `audience` is the audience of the app's assertions. If `audience`
    is None, the audience is the app's name.
    """

    audience: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class AssertionsTable(_Table):
    """The settings of the header `X-Session-Assertion`. `keys` is the folder of the signing keys,
    which the command `session-authority keys` makes. `issuer` is the issuer that apps expect in an
    assertion.
    """

    keys: _Path
    issuer: Annotated[str, Field(min_length=1, max_length=256)]


class OAuthCallerTable(_Table):
    """A program that may introspect tokens. `secret_sha256` has the SHA-256 hash of each secret of
    the program, in hexadecimal. While a secret is being replaced, the program has two secrets. If
    `may_revoke` is True, the program may also revoke tokens.
    """

    secret_sha256: Annotated[list[_Hash], Field(min_length=1)]
    may_revoke: bool = False


class GatewayConfig(_Table):
    """The contents of the gateway's configuration file."""

    authority: AuthorityTable
    http: ListenTable | None = None
    grpc: GrpcTable | None = None
    flow: FlowTable = FlowTable()
    devices: DevicesTable | None = None
    assertions: AssertionsTable | None = None
    oauth_callers: dict[Annotated[str, Field(pattern=_NAME)], OAuthCallerTable] = {}
    apps: dict[Annotated[str, Field(pattern=_NAME)], AppTable] = {}
    drain_timeout: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=10)

    @model_validator(mode="after")
    def _some_listener(self) -> GatewayConfig:
        if self.http is None and self.grpc is None:
            raise ValueError("there must be a table [http] or [grpc] that says where to listen")
        return self

    def client_flow(self) -> Flow:
        """Returns the flow with its settings. The flow has the page of devices if that page is
        configured.
        """
        return self.flow.flow(self.devices)

    def callers(self) -> OAuthCallers:
        """Returns the programs that may introspect tokens. Some of these programs may also revoke
        tokens.
        """
        return OAuthCallers(
            {
                name: OAuthCaller(tuple(map(bytes.fromhex, table.secret_sha256)), table.may_revoke)
                for name, table in self.oauth_callers.items()
            }
        )

    def routes(self) -> Routes:
        """Returns the reader of the options of routes. The reader accepts only the configured
        apps.
        """
        return Routes({name: table.audience or name for name, table in self.apps.items()})


def load_gateway_config(path: Path) -> GatewayConfig:
    """Reads the configuration from a TOML file. Raises GatewayConfigError if the file can't be read
    or has faults.
    """
    try:
        found = read_toml(path)
    except ValueError as error:
        raise GatewayConfigError(str(error)) from None
    try:
        return GatewayConfig.model_validate(found, context=_Context(path.parent))
    except ValidationError as error:
        faults = faults_of(error, _in_words)
        raise GatewayConfigError("\n".join(f"{path}: {fault}" for fault in faults)) from None


# Maps each type of pydantic's errors to the text of the rule that the field breaks.
_RULES: dict[str, str] = {
    "extra_forbidden": "is not known",
    "missing": "must be given",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
}
_PATTERNS = {
    _HEX: "must be a SHA-256 in 64 lower-case hexadecimal digits",
    _NAME: "must be named by lower-case letters, digits, '.', '_' and '-'",
}


def _in_words(fault: ErrorDetails) -> tuple[str, str]:
    """Returns the name of the field that has the fault, and the rule that the field breaks."""
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "the file"
    rule = _RULES.get(fault["type"], fault["msg"])
    if fault["type"] == "string_pattern_mismatch":
        rule = _PATTERNS.get(fault["ctx"]["pattern"], "must be the name of a header")
    return where, rule
