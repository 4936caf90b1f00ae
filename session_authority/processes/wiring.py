"""Makes the parts of a process from the settings: the client of Redis, the authority, the observer
of calls, and the rules of the ports.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from session_authority.access import AccessSource
from session_authority.authority import Authority
from session_authority.domain.session_limits import LEEWAY
from session_authority.geoip import GeoipSource, nowhere
from session_authority.processes.descriptor_budget import MIN_CONNECTIONS, connections_for
from session_authority.processes.options import ListenOptions
from session_authority.rpc import Capacity, Observer
from session_authority.runtime import descriptors
from session_authority.runtime.audit_log import AuditLog
from session_authority.runtime.clock import SteadyClock, now
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.process_metrics import ProcessMetrics
from session_authority.runtime.settings import Settings, Unsafe
from session_authority.runtime.tls import TlsFiles, TlsSource
from session_authority.store import (
    KeyNames,
    Limits,
    RedisClient,
    SessionStore,
    connect,
    redis_errors,
    traffic_of,
)
from session_authority.tokens import KeySource, Tokens


def build_authority(
    settings: Settings,
    store: SessionStore,
    source: KeySource,
    metrics: Metrics,
    clock: SteadyClock,
    geoip: GeoipSource | None = None,
) -> Authority:
    """Makes the `Authority`, which carries out the use cases. The authority gets its random bytes
    from the operating system.
    """
    limits = settings.session_limits()
    tokens = Tokens(
        source,
        issuer=settings.issuer,
        audience=settings.audience,
        lifetime=limits.token_ttl + limits.idle_timeout + LEEWAY,
    )
    return Authority(
        store=store,
        tokens=tokens,
        limits=limits,
        metrics=metrics,
        clock=clock,
        random_bytes=secrets.token_bytes,
        places=nowhere if geoip is None else geoip.place_of,
    )


def geoip_as_set(settings: Settings) -> GeoipSource | None:
    """Opens the database of places, or returns None if the settings name no database. Raises
    GeoipError if the database can't be used.
    """
    return None if settings.geoip_database is None else GeoipSource(settings.geoip_database)


@contextmanager
def observer_as_set(settings: Settings) -> Iterator[Observer]:
    """Makes the observer of calls from the settings. Closes the audit log at the end of the block.
    Raises AuditLogError if the audit log can't be opened.
    """
    audit_log = None if settings.audit_log is None else AuditLog(str(settings.audit_log))
    try:
        yield Observer(access_log=settings.access_log, audit_log=audit_log)
    finally:
        if audit_log is not None:
            audit_log.close()


def connect_as_set(settings: Settings) -> tuple[RedisClient, KeyNames]:
    """Makes a client of the Redis that the settings name. Also returns a `KeyNames`, which makes
    the names of the service's keys in Redis.
    """
    assert settings.redis_url is not None  # the command line has checked this setting
    limits = Limits(
        reply_timeout=settings.redis_timeout, max_connections=settings.redis_connections
    )
    client = connect(settings.redis_url.get_secret_value(), limits)
    return client, KeyNames(settings.redis_prefix)


def show_traffic(client: RedisClient, metrics: ProcessMetrics) -> None:
    """Makes the metrics show the traffic of a client of Redis: round trips, sizes of batches,
    exchanges that wait for a connection, and errors.
    """
    traffic = traffic_of(client)
    metrics.redis_round_trips.show(traffic.reads, "read")
    metrics.redis_round_trips.show(traffic.commands, "command")
    metrics.redis_batch_size.show(traffic.batch_sizes)
    metrics.redis_waiting.set_function(traffic.waiting)
    metrics.redis_errors.counts = redis_errors


def listen_options_as_set(settings: Settings) -> ListenOptions:
    """Makes the rules of the ports from the settings. Raises AccessError if the access policy or
    the tokens of callers can't be used. Raises CertificateError if the certificates can't be used.
    """
    access = tls = None
    if settings.access_policy is not None:
        access = AccessSource(settings.access_policy, settings.caller_tokens)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        tls = TlsSource(files, now)
    return ListenOptions(
        access=access,
        tls=tls,
        capacity=Capacity(
            calls=settings.max_in_flight,
            streams=settings.max_watchers,
            per_connection=settings.max_per_connection,
            connections=max(connections_for(descriptors.limit(), settings), MIN_CONNECTIONS),
        ),
        acceptor=settings.acceptor,
        plaintext_tokens=Unsafe.PLAINTEXT in settings.allow_unsafe,
    )
