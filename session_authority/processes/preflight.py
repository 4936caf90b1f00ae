"""Checks the settings, the files that they name, and the store before the service starts. The
command `check` shows the results of all checks in this module, including the check of the ports.
With the option `--running`, the command leaves out the check of the ports.

Each check examines one subject, and reports all faults that it finds. The setting ALLOW_UNSAFE can
allow a fault that has a name in `Unsafe`. The text of a fault never contains a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from session_authority.access import AccessError, load_access, read_policy, read_tokens
from session_authority.domain.errors import StoreUnavailable
from session_authority.geoip import GeoipError, open_database
from session_authority.processes.descriptor_budget import MIN_CONNECTIONS, connections_for
from session_authority.processes.listening import CannotListen, refuse_taken
from session_authority.processes.readiness import MAX_CLOCK_SKEW
from session_authority.processes.wiring import connect_as_set
from session_authority.runtime import descriptors
from session_authority.runtime.addresses import MAX_PORT, Listen
from session_authority.runtime.audit_log import target_fault
from session_authority.runtime.clock import now
from session_authority.runtime.files import exposure
from session_authority.runtime.metrics_server import TokenError, read_token
from session_authority.runtime.settings import PREFIX, Settings, Unsafe, config_file
from session_authority.runtime.tls import CertificateError, TlsFiles, load_certificates
from session_authority.store import BadRedisUrl, Limits, connect
from session_authority.store.safety import FaultName, faults_of, plaintext_fault
from session_authority.tokens import KeyringError, exposed, load_keyring

# The database of places counts as old after half a year, because IP addresses move to other cities
# and countries over time.
_OLD_DATABASE = timedelta(days=183)
_STORE_TIME_LIMIT = timedelta(seconds=5)
# `_STORE_UNSAFE` has the faults of the store that ALLOW_UNSAFE can allow, each with its name in
# ALLOW_UNSAFE. `_PASSING` has the faults of the store that may end without a change by an operator.
_STORE_UNSAFE = {
    FaultName.EVICTING: Unsafe.EVICTING_STORE,
    FaultName.VOLATILE: Unsafe.VOLATILE_STORE,
    FaultName.PLAINTEXT: Unsafe.PLAINTEXT_STORE,
}
_PASSING = frozenset({FaultName.UNREACHABLE, FaultName.NO_ROOM})
# While the store has one of these faults, the other faults of the store can't be found.
_HIDING = frozenset({FaultName.UNREACHABLE})
# Too few replicas do not prevent a start. The answer to a call that writes says whether enough
# replicas have the write.
_HARMLESS = frozenset({FaultName.FEW_REPLICAS})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that a check found.

    `unsafe` is the name of the fault in the setting ALLOW_UNSAFE, or None if the setting can't
    allow the fault. A `passing` fault may end without a change by an operator. While the store has
    a `hiding` fault, the other faults of the store can't be found. A `passing` or `harmless` fault
    does not prevent a start.
    """

    text: str
    unsafe: Unsafe | None = None
    passing: bool = False
    hiding: bool = False
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check. `title` names the subject of the check, and `found` says in a few
    words what the check found.
    """

    title: str
    faults: tuple[Fault, ...]
    found: str = ""


def refusals(checked: Iterable[Checked], allowed: frozenset[Unsafe]) -> list[str]:
    """Returns the texts of the faults that prevent a start and that are not in `allowed`."""
    return [
        text_of(fault)
        for check in checked
        for fault in check.faults
        if not (fault.passing or fault.harmless) and fault.unsafe not in allowed
    ]


def text_of(fault: Fault) -> str:
    """Returns the text of a fault. If ALLOW_UNSAFE can allow the fault, the text also says how."""
    if fault.unsafe is None:
        return fault.text
    return f"{fault.text} (or allow it: {PREFIX}ALLOW_UNSAFE={fault.unsafe.value})"


async def check_everything(settings: Settings) -> list[Checked]:
    """Runs all checks except `check_ports`, in the order in which a person sets a service up."""
    return [*check_files(settings), await check_store(settings)]


def check_files(settings: Settings) -> Iterator[Checked]:
    """Runs the checks that need no connection to the store."""
    for title, check in _CHECKS.items():
        faults: list[Fault] = []
        found = check(settings, faults.append)
        yield Checked(title, tuple(faults), found)


async def check_store(settings: Settings) -> Checked:
    """Checks that Redis answers, accepts writes and has the right time. Also checks the version and
    the configuration of Redis. Reports no fault if the URL of Redis is missing or broken, because
    `check_files` reports such a URL.
    """
    title = "store"
    if settings.redis_url is None or _url_fault(settings) is not None:
        return Checked(title, ())  # `check_files` reports the URL
    client, keys = connect_as_set(settings)
    try:
        found = await faults_of(
            client,
            keys,
            now,
            time_limit=_STORE_TIME_LIMIT,
            max_skew=MAX_CLOCK_SKEW,
            replicas=settings.replicas_ack,
        )
    finally:
        await client.aclose()
    faults = (
        Fault(
            fault.text,
            _STORE_UNSAFE.get(fault.name),
            passing=fault.name in _PASSING,
            hiding=fault.name in _HIDING,
            harmless=fault.name in _HARMLESS,
        )
        for fault in found
    )
    return Checked(title, tuple(faults), "answers, keeps what it is told, and has the right time")


def check_ports(settings: Settings) -> Checked:
    """Checks that the ports in the settings are free. The command `serve` does not run this check,
    because it notices a taken port when it listens.
    """
    listens: dict[str, list[Listen | None]] = {
        "LISTEN": [settings.listen],
        "BEARER_LISTEN": [settings.bearer_listen],
        "HEALTH_LISTEN": [settings.health_listen],
        "METRICS_LISTEN": [settings.metrics_listen],
    }
    faults = []
    for name, each in listens.items():
        for listen in each:
            if listen is None or listen.port > MAX_PORT:
                continue  # there is no port that could be checked
            try:
                refuse_taken(listen)
            except CannotListen as error:
                faults.append(Fault(f"{PREFIX}{name}: {error}"))
    return Checked("ports", tuple(faults), "free")


async def store_refusals(settings: Settings) -> list[str]:
    """Returns the texts of the faults of the store that prevent a start and that no setting allows.
    Raises StoreUnavailable if the store has a fault that hides other faults, for example if Redis
    does not answer.
    """
    checked = await check_store(settings)
    if any(fault.hiding for fault in checked.faults):
        raise StoreUnavailable
    return refusals([checked], settings.allow_unsafe)


# --- A check passes each fault to `tell`, and returns a text about what it found ------------------

_Tell = Callable[[Fault], None]


def _check_store_url(settings: Settings, tell: _Tell) -> str:
    name = f"{PREFIX}REDIS_URL"
    if settings.redis_url is None:
        tell(Fault(f"{name}: must be set"))
        return ""
    url = settings.redis_url.get_secret_value()
    broken = _url_fault(settings)
    if broken is not None:
        tell(Fault(f"{name}: {broken}"))
        return ""
    plain = plaintext_fault(url)
    if plain is not None:
        tell(Fault(f"{name}: {plain.text}", Unsafe.PLAINTEXT_STORE))
    for option, value in parse_qsl(urlsplit(url).query):
        if option in ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"):
            secret = option == "ssl_keyfile"
            _report_exposure(
                Path(value), "what Redis is shown", Unsafe.EXPOSED_SECRETS, tell, secret=secret
            )
    return url.partition("://")[0]


def _url_fault(settings: Settings) -> str | None:
    assert settings.redis_url is not None
    try:
        connect(settings.redis_url.get_secret_value(), Limits())
    except BadRedisUrl as error:
        return str(error)
    return None


def _check_keys(settings: Settings, tell: _Tell) -> str:
    name = f"{PREFIX}KEYS"
    if settings.keys is None:
        make = "`session-authority keys generate --promote --dir DIR`"
        tell(Fault(f"{name}: must name a key folder; make one with {make}"))
        return ""
    try:
        signing = load_keyring(settings.keys).signing
        for fault in exposed(settings.keys):
            tell(Fault(f"{name}: {fault}", Unsafe.EXPOSED_SECRETS))
    except KeyringError as error:
        for text in error.faults:
            tell(Fault(f"{name}: {text}"))
        return ""
    return f"{signing.kid} signs with {signing.algorithm.value}"


def _check_access(settings: Settings, tell: _Tell) -> str:
    name = f"{PREFIX}ACCESS_POLICY"
    if settings.access_policy is None:
        rule = (
            "must name an access policy, or anyone who can connect may do everything;"
            " docs/security.md has one to start from"
        )
        tell(Fault(f"{name}: {rule}", Unsafe.OPEN_ACCESS))
        return "anyone may do everything"
    try:
        load_access(settings.access_policy, settings.caller_tokens)
    except AccessError as error:
        for text in error.faults:
            tell(Fault(f"{name}: {text}"))
        return ""
    files = [settings.access_policy, *([settings.caller_tokens] if settings.caller_tokens else [])]
    for path in files:
        _report_exposure(path, "who may do what", Unsafe.EXPOSED_SECRETS, tell, secret=False)
    policy = read_policy(settings.access_policy)
    tokens = (
        {token.caller for token in read_tokens(settings.caller_tokens)}
        if settings.caller_tokens
        else set()
    )
    certain = {caller.name for caller in policy.certificates.values()}
    if certain and settings.tls_client_ca is None:
        named = ", ".join(sorted(certain))
        tell(
            Fault(
                f"{name}: names certificates (of {named}), but {PREFIX}TLS_CLIENT_CA is not"
                " set to vouch for any"
            )
        )
    nameless = sorted(policy.callers.keys() - tokens - certain)
    return f"{len(policy.callers)} callers" + (
        f"; nothing shows who they are: {', '.join(nameless)}" if nameless else ""
    )


def _check_tls(settings: Settings, tell: _Tell) -> str:
    if settings.tls_certificate is None or settings.tls_key is None:
        return "none"
    files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    try:
        certificates = load_certificates(files, now())
    except CertificateError as error:
        for text in error.faults:
            tell(Fault(f"TLS: {text}"))
        return ""
    _report_exposure(files.key, "the key", Unsafe.EXPOSED_SECRETS, tell)
    holds_key = b"PRIVATE KEY" in certificates.chain
    _report_exposure(
        files.certificate, "the certificate", Unsafe.EXPOSED_SECRETS, tell, secret=holds_key
    )
    if files.client_ca is not None:
        _report_exposure(
            files.client_ca,
            "who vouches for callers",
            Unsafe.EXPOSED_SECRETS,
            tell,
            secret=False,
        )
    kind = "TLS" if files.client_ca is None else "mutual TLS"
    return f"{kind}, with a certificate that ends {certificates.ends_at:%Y-%m-%d}"


def _check_listens(settings: Settings, tell: _Tell) -> str:
    listen: Listen = settings.listen
    if settings.tls_certificate is None and not listen.is_loopback:
        rule = "can be reached from elsewhere, in plaintext; set TLS_CERTIFICATE and TLS_KEY"
        tell(Fault(f"{PREFIX}LISTEN: {listen} {rule}", Unsafe.PLAINTEXT))
    others = {"bearer tokens": settings.bearer_listen, "health": settings.health_listen}
    return ", ".join(
        [str(listen), *(f"{other} ({what})" for what, other in others.items() if other is not None)]
    )


def _check_metrics(settings: Settings, tell: _Tell) -> str:
    listen: Listen | None = settings.metrics_listen
    if listen is None:
        return "none"
    how = "over TLS" if settings.metrics_tls else "in plaintext"
    if settings.metrics_token_file is None:
        return f"{listen}, {how}"
    path = settings.metrics_token_file
    _report_exposure(path, "the token of the metrics", Unsafe.EXPOSED_SECRETS, tell)
    try:
        read_token(path)
    except TokenError as error:
        tell(Fault(f"{PREFIX}METRICS_TOKEN_FILE: {error}"))
    if not listen.is_loopback and not settings.metrics_tls:
        rule = "can be read on its way; set METRICS_TLS"
        tell(Fault(f"{PREFIX}METRICS_TOKEN_FILE: the token {rule}", harmless=True))
    return f"{listen}, {how}, with a token"


def _check_geoip(settings: Settings, tell: _Tell) -> str:
    name, path = f"{PREFIX}GEOIP_DATABASE", settings.geoip_database
    if path is None:
        return "none"
    try:
        database = open_database(path)
    except GeoipError as error:
        tell(Fault(f"{name}: {error}"))
        return ""
    _report_exposure(path, "where users seem to be", Unsafe.EXPOSED_SECRETS, tell, secret=False)
    age = now() - database.built_at
    found = f"{database.kind}, built {database.built_at:%Y-%m-%d}, {max(age.days, 0)} days old"
    if not database.has_places:
        tell(Fault(f"{name}: {found}: is no City or Country database", harmless=True))
    elif age > _OLD_DATABASE:
        tell(Fault(f"{name}: {found}: replace it by a newer one", harmless=True))
    return found


def _check_descriptors(settings: Settings, tell: _Tell) -> str:
    limit = descriptors.attainable()
    bound = connections_for(limit, settings)
    low = f"file descriptors are limited to {limit} (`ulimit -Hn`)"
    if bound < MIN_CONNECTIONS:
        tell(Fault(f"{low}, which leaves too few for connections beside Redis and files"))
    elif bound < settings.max_connections:
        most = f"{bound} connections a port, not {settings.max_connections}"
        tell(Fault(f"{low}, which is enough for {most}", harmless=True))
    return f"{bound} connections a port"


def _check_settings_file(_: Settings, tell: _Tell) -> str:
    path = config_file()
    if path is None:
        return "none"
    _report_exposure(path, "the settings, which may hold a password", Unsafe.EXPOSED_SECRETS, tell)
    return str(path)


def _check_intervals(settings: Settings, tell: _Tell) -> str:
    if settings.grace < 2 * MAX_CLOCK_SKEW:
        rule = (
            f"must be at least {2 * MAX_CLOCK_SKEW.seconds}s, twice what clocks may differ by; else"
            " requests in flight are denied"
        )
        tell(Fault(f"{PREFIX}GRACE: {rule}", Unsafe.SHORT_GRACE))
    if settings.assurance is None:
        return "no level of assurance"
    beside = settings.beside_preset()
    own = "; ".join(
        f"{name.upper()} is {value}, not {level}" for name, (value, level) in beside.items()
    )
    return f"{settings.assurance.value}" + (f", but {own}" if own else "")


def _report_exposure(
    path: Path, what: str, unsafe: Unsafe, tell: _Tell, *, secret: bool = True
) -> None:
    try:
        for fault in exposure(path, what, secret=secret):
            tell(Fault(fault, unsafe))
    except OSError as error:
        tell(Fault(f"{path}: can't be read: {error.strerror}"))


def _check_audit_log(settings: Settings, tell: _Tell) -> str:
    if settings.audit_log is None:
        return "off"
    fault = target_fault(str(settings.audit_log))
    if fault is not None:
        tell(Fault(f"{PREFIX}AUDIT_LOG: {fault}"))
    return str(settings.audit_log)


KEYS, ACCESS, TLS, METRICS = "signing keys", "access", "TLS", "metrics"
_CHECKS: dict[str, Callable[[Settings, _Tell], str]] = {
    "settings file": _check_settings_file,
    "store address": _check_store_url,
    KEYS: _check_keys,
    ACCESS: _check_access,
    TLS: _check_tls,
    "listens on": _check_listens,
    METRICS: _check_metrics,
    "places": _check_geoip,
    "audit log": _check_audit_log,
    "descriptors": _check_descriptors,
    "intervals": _check_intervals,
}
