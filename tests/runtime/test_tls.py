"""Certificates are checked before they are used: a certificate that gRPC could not serve is an
error that names the file and the fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from session_authority.runtime.tls import CertificateError, TlsFiles, TlsSource, load_certificates
from tests.support.ca import CA, Pair, encrypted_key

PASSWORD = b"hunter2"
DAY = timedelta(days=1)
NO_KEY = "holds no private key in PEM form that is not encrypted"
NO_CERTIFICATES = "holds no certificates in PEM form"
NO_OTHER = "must be an RSA, P-256 or P-384 key: gRPC speaks TLS with no other"
NOT_ITS_KEY = "is not the key of the certificate"


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    return CA(tmp_path)


@pytest.fixture
def pair(ca: CA) -> Pair:
    return ca.sign(addresses=["127.0.0.1"])


def now() -> datetime:
    return datetime.now(UTC)


def faults_of(files: TlsFiles, after: timedelta = timedelta(0)) -> list[str]:
    with pytest.raises(CertificateError) as caught:
        load_certificates(files, now() + after)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return list(caught.value.faults)


def own(pair: Pair, ca: Path | None = None) -> TlsFiles:
    return TlsFiles(pair.certificate, pair.key, ca)


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
async def test_accepted_keys_are_served_by_grpc(ca: CA, kind: str):
    pair = ca.sign(addresses=["127.0.0.1"], key=kind)
    assert load_certificates(own(pair), now()).key == pair.key.read_bytes()
    assert await is_served(ca, pair)


@pytest.mark.parametrize("kind", ["ed25519", "p521", "secp256k1"])
async def test_keys_that_grpc_cannot_serve_are_refused(ca: CA, kind: str):
    pair = ca.sign(addresses=["127.0.0.1"], key=kind)
    assert faults_of(own(pair)) == [f"{pair.key}: {NO_OTHER}"]
    assert not await is_served(ca, pair), "gRPC can do it now: take such keys"


async def is_served(ca: CA, pair: Pair) -> bool:
    """Returns whether a gRPC client reaches a gRPC server that has this certificate."""
    server = grpc.aio.server()
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    )
    try:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    except RuntimeError:
        return False
    await server.start()
    trust = grpc.ssl_channel_credentials(ca.pem)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trust) as channel:
        state = channel.get_state(try_to_connect=True)
        async with asyncio.timeout(20):
            while state not in (
                grpc.ChannelConnectivity.READY,
                grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            ):
                await channel.wait_for_state_change(state)
                state = channel.get_state()
    await server.stop(None)
    return state is grpc.ChannelConnectivity.READY


def test_accepted_files_are_served_unchanged(ca: CA, pair: Pair):
    found = load_certificates(own(pair, ca.file), now())
    assert (found.chain, found.key) == (pair.certificate.read_bytes(), pair.key.read_bytes())
    assert found.client_ca == ca.pem
    assert timedelta(hours=23) < found.ends_at - now() < timedelta(hours=25)
    assert "PRIVATE" not in repr(found)
    assert load_certificates(own(pair), now()).client_ca is None


def test_a_chain_is_accepted_as_a_whole(ca: CA, pair: Pair, tmp_path: Path):
    between = CA(tmp_path / "between", "between", above=ca)
    leaf = between.sign(addresses=["127.0.0.1"])
    leaf.certificate.write_bytes(leaf.certificate.read_bytes() + between.pem)
    assert load_certificates(own(leaf), now()).chain == leaf.certificate.read_bytes()
    leaf.certificate.write_bytes(between.pem + leaf.certificate.read_bytes())
    assert faults_of(own(leaf)) == [f"{leaf.key}: {NOT_ITS_KEY}"], (
        "the certificate of the service must be the first"
    )


def _replace_key(content: bytes) -> Callable[[Pair], object]:
    return lambda pair: pair.key.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (_replace_key(b""), NO_KEY),
        (_replace_key(b"garbage"), NO_KEY),
        (_replace_key(b"\xff\0"), NO_KEY),
        (_replace_key(encrypted_key(PASSWORD)), NO_KEY),
        (lambda pair: _cut(pair.key), NO_KEY),
        (lambda pair: pair.key.write_bytes(pair.certificate.read_bytes()), NO_KEY),
        (
            _replace_key(
                dsa.generate_private_key(1024).private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                )
            ),
            NO_OTHER,
        ),
        (lambda pair: pair.key.unlink(), "can't be read: No such file or directory"),
    ],
    ids=["empty", "garbage", "bytes", "encrypted", "cut", "certificate", "DSA", "gone"],
)
def test_a_key_that_cannot_be_used_is_refused(
    pair: Pair, spoil: Callable[[Pair], object], fault: str
):
    spoil(pair)
    assert faults_of(own(pair)) == [f"{pair.key}: {fault}"]


def test_a_key_of_another_certificate_is_refused(ca: CA, pair: Pair):
    other = ca.sign(addresses=["127.0.0.1"])
    assert faults_of(TlsFiles(pair.certificate, other.key)) == [f"{other.key}: {NOT_ITS_KEY}"]


def test_a_weak_key_is_refused(ca: CA):
    pair = ca.sign(addresses=["127.0.0.1"], key="rsa1024")
    assert faults_of(own(pair)) == [f"{pair.key}: has 1024 bits; an RSA key needs at least 2048"]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda path: path.write_bytes(b""), NO_CERTIFICATES),
        (lambda path: path.write_bytes(b"garbage"), NO_CERTIFICATES),
        (_cut, NO_CERTIFICATES),
        (lambda path: path.unlink(), "can't be read: No such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), "can't be read: Is a directory"),
    ],
    ids=["empty", "garbage", "cut", "gone", "folder"],
)
@pytest.mark.parametrize("which", ["certificate", "authority"])
def test_certificates_that_cannot_be_used_are_refused(
    ca: CA, pair: Pair, which: str, spoil: Callable[[Path], object], fault: str
):
    path = pair.certificate if which == "certificate" else ca.file
    spoil(path)
    assert faults_of(own(pair, ca.file)) == [f"{path}: {fault}"]


def test_a_key_in_the_file_of_certificates_is_refused(pair: Pair):
    assert faults_of(TlsFiles(pair.key, pair.key)) == [f"{pair.key}: {NO_CERTIFICATES}"]


@pytest.mark.parametrize(
    ("after", "fault"), [(2 * DAY, "expired at"), (-DAY, "is not valid before")]
)
def test_certificates_outside_their_time_are_refused(
    ca: CA, pair: Pair, after: timedelta, fault: str
):
    found = faults_of(own(pair, ca.file), after)
    for text, path in zip(found, (pair.certificate, ca.file), strict=True):
        assert text.startswith(f"{path}: {fault} 2")


def test_an_expired_authority_does_no_harm_beside_a_good_one(ca: CA, pair: Pair, tmp_path: Path):
    old = CA(tmp_path / "old").sign(ends=-timedelta(minutes=1))
    ca.file.write_bytes(old.certificate.read_bytes() + ca.pem)
    assert load_certificates(own(pair, ca.file), now()).client_ca == ca.file.read_bytes()


def test_all_faults_are_named_at_once_and_no_key_is_quoted(ca: CA):
    pair = ca.sign(ends=-timedelta(minutes=1), key="rsa1024")
    secret = pair.key.read_text().splitlines()[3]
    ca.file.write_text("garbage")
    found = faults_of(own(pair, ca.file))
    assert [text.partition(": ")[0] for text in found] == [
        str(pair.certificate),
        str(pair.key),
        str(ca.file),
    ]
    assert secret not in str(found)


def test_a_certificate_that_is_not_for_servers_is_refused(ca: CA):
    pair = ca.sign(addresses=["127.0.0.1"], purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    [fault] = faults_of(own(pair))
    assert fault.startswith(f"{pair.certificate}: is not for servers")
    load_certificates(own(pair), now(), for_server=False)
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    load_certificates(own(ca.sign(addresses=["127.0.0.1"], purposes=both)), now())


def test_files_without_authorities_are_refused(ca: CA, pair: Pair):
    [fault] = faults_of(own(pair, pair.certificate))
    assert fault.startswith(f"{pair.certificate}: holds no CA")


def refreshed(source: TlsSource) -> bool:
    """Returns whether new files are in force after they were seen twice."""
    return source.refresh() or source.refresh()


def test_changed_files_are_used_and_broken_files_change_nothing(ca: CA, pair: Pair):
    source = TlsSource(own(pair, ca.file), now)
    before = source.current
    assert (refreshed(source), source.version) == (False, 0)
    other = ca.sign(addresses=["127.0.0.1"])
    pair.certificate.write_bytes(other.certificate.read_bytes())
    for _ in range(2):
        with pytest.raises(CertificateError, match="is not the key of the certificate"):
            refreshed(source)
        assert (source.current is before, source.version) == (True, 0)
    other.copy_to(pair)
    assert (refreshed(source), source.version, source.current.key) == (
        True,
        1,
        other.key.read_bytes(),
    )
    ca.file.unlink()
    with pytest.raises(CertificateError, match="can't be read"):
        refreshed(source)
    ca.file.write_bytes(ca.pem)
    assert (refreshed(source), source.refresh(), source.version) == (True, False, 2)


def test_broken_files_at_the_start_are_an_error(pair: Pair):
    pair.key.unlink()
    with pytest.raises(CertificateError, match="can't be read"):
        TlsSource(own(pair), now)
