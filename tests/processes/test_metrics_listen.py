"""Metrics are served as the settings say, or the process says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from session_authority.processes.listening import CannotListen, serve_metrics
from session_authority.runtime.settings import Settings

pytestmark = pytest.mark.one_acceptor


def test_a_malformed_token_is_refused_at_the_start(tmp_path: Path):
    file = tmp_path / "token"
    settings = Settings(metrics_listen="127.0.0.1:0", metrics_token_file=file)
    for write in (lambda: None, lambda: file.write_text("short")):
        write()
        with pytest.raises(CannotListen, match=f"for metrics: {file}: (can't be read|must hold)"):
            serve_metrics(CollectorRegistry(), settings)
    file.write_text("a-token-that-is-long-enough")
    serve_metrics(CollectorRegistry(), settings)


def test_malformed_certificates_are_refused_at_the_start(tmp_path: Path):
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    settings = Settings(
        metrics_listen="127.0.0.1:0", metrics_tls=True, tls_certificate=broken, tls_key=broken
    )
    with pytest.raises(CannotListen, match="don't work"):
        serve_metrics(CollectorRegistry(), settings)
    broken.unlink()
    with pytest.raises(CannotListen, match="No such file"):
        serve_metrics(CollectorRegistry(), settings)
