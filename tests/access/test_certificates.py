"""The names in a certificate are remembered, unless the certificate is huge."""

from __future__ import annotations

from pathlib import Path

from session_authority.access import certificates
from session_authority.access.certificates import names_in
from tests.support.ca import CA


def test_a_huge_certificate_is_read_but_not_remembered(tmp_path: Path):
    """If they were remembered, a thousand huge certificates would occupy a hundred megabytes."""
    certificates._remembered.cache_clear()
    ca = CA(tmp_path)
    small = ca.sign(hosts=["small.example"]).certificate.read_bytes()
    hosts = tuple(f"host-{number}.example.org" for number in range(1000))
    huge = ca.sign(hosts=hosts).certificate.read_bytes()
    for _ in range(2):
        assert names_in(small) == ("small.example",)
        assert names_in(huge) == hosts
    assert len(huge) > 16 * 1024
    assert certificates._remembered.cache_info().currsize == 1
    assert certificates._remembered.cache_info().hits == 1
