"""TLS: real clients, certificates that change or do not fit, and handshakes that are never done."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from cryptography import x509

from imagesmith.accounts.keys import KeyRing
from imagesmith.wire.create import create_app
from imagesmith.wire.messages import Request, Response
from imagesmith.wire.model import Api
from imagesmith.wire.peers import PeerSlots
from imagesmith.wire.self_signed import self_signed
from imagesmith.wire.server import running
from imagesmith.wire.service import ApiService
from imagesmith.wire.tls import CertificateFiles, ServerCertificate, TlsError
from testing.pipeline_support import eventually
from testing.wire_support import KEY, REGION, Clock, Recorder, settings_for

AWS = Path(sys.executable).with_name("aws")
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a certificate."""
    folder = tmp_path_factory.mktemp("made")
    self_signed(folder, "127.0.0.1", NOW)
    return folder / "tls"


@pytest.fixture(scope="module")
def server(api: Api, made: Path) -> Iterator[str]:
    """A listening server with that certificate."""
    app = create_app(
        Recorder(frozenset(api.operations)), keys=KeyRing([KEY]), settings=settings_for(made), clock=Clock(),
        ids=lambda: str(uuid.uuid4()), api=api,
    )  # fmt: skip
    with running(app, tls=ServerCertificate(CertificateFiles(made / "server.pem", made / "server.key"))) as url:
        yield url
    app.close()


def environment(url: str, **variables: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_ENDPOINT_URL_IMAGEBUILDER": url,
        "AWS_ACCESS_KEY_ID": KEY.access_key_id, "AWS_SECRET_ACCESS_KEY": KEY.secret, "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION, **variables,
    }  # fmt: skip


def test_ordinary_clients_speak_tls_with_the_authority_alone(
    server: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 and the AWS CLI by AWS_CA_BUNDLE, curl and openssl by option; without the authority all refuse."""
    authority = str(made / "ca.pem")
    for name, value in environment(server, AWS_CA_BUNDLE=authority).items():
        monkeypatch.setenv(name, value)
    client = boto3.client("imagebuilder")
    assert client.list_images()["ResponseMetadata"]["HTTPStatusCode"] == 200
    client.close()
    port = str(urlsplit(server).port)
    openssl = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-verify_return_error", "-x509_strict"]
    for argv, bundle in (
        ([str(AWS), "imagebuilder", "list-images"], {"AWS_CA_BUNDLE": authority}),
        (["curl", "-sS", "--cacert", authority, f"{server}/healthz"], {}),
        (["curl", "-sS", "--cacert", authority, f"https://localhost:{port}/healthz"], {}),
        ([*openssl, "-CAfile", authority, "-verify_ip", "127.0.0.1"], {}),
        ([*openssl, "-CAfile", authority, "-verify_hostname", "localhost"], {}),
    ):
        done = _run(argv, environment(server, **bundle))
        assert done.returncode == 0, done.stderr
    for argv in ([str(AWS), "imagebuilder", "list-images"], ["curl", "-sS", f"{server}/healthz"], openssl):
        assert _run(argv, environment(server)).returncode != 0


def _run(argv: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=variables, input="", capture_output=True, text=True, timeout=60, check=False)


def context(made: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(made / "ca.pem"))


def peer_serial(url: str, trust: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection sees."""
    address = urlsplit(url)
    with (
        socket.create_connection((address.hostname, address.port or 0), timeout=30) as plain,
        trust.wrap_socket(plain, server_hostname=address.hostname) as secured,
    ):
        data = secured.getpeercert(binary_form=True)
    assert data is not None
    return x509.load_der_x509_certificate(data).serial_number


def test_old_protocols_are_refused(server: str, made: Path) -> None:
    """TLS 1.2 and 1.3 are spoken, and nothing older."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        trust = context(made)
        trust.minimum_version = trust.maximum_version = version
        assert peer_serial(server, trust)
    done = _run(
        ["openssl", "s_client", "-connect", urlsplit(server).netloc, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        environment(server),
    )
    assert done.returncode != 0


def test_many_connections_at_once_are_served(server: str, made: Path) -> None:
    """No handshake loses what its client sends early, in whatever order the sockets are read."""
    trust = context(made)
    assert len({peer_serial(server, trust) for _ in range(40)}) == 1
    done = _run(
        ["curl", "-sS", "--cacert", str(made / "ca.pem"), "--parallel", *([f"{server}/healthz"] * 40)],
        environment(server),
    )
    assert done.returncode == 0 and done.stdout.count("ok") == 40, done.stderr


def test_a_certificate_that_changes_is_used_by_new_connections(api: Api, tmp_path: Path) -> None:
    """Without a restart; half of a change, or a key that does not fit, leaves the old one in place."""
    files = self_signed(tmp_path, "127.0.0.1", NOW)
    old_key = files.key.read_bytes()
    certificate = ServerCertificate(files)
    app = create_app(
        Recorder(frozenset(api.operations)), keys=KeyRing([KEY]), settings=settings_for(tmp_path), clock=Clock(),
        ids=lambda: str(uuid.uuid4()), api=api,
    )  # fmt: skip
    trust = context(tmp_path / "tls")
    with running(app, tls=certificate) as url:
        first = peer_serial(url, trust)
        self_signed(tmp_path, "renewed.example", NOW)
        eventually(lambda: peer_serial(url, trust) != first, "the new certificate is used")
        second = peer_serial(url, trust)
        files.key.write_bytes(old_key)
        certificate.refresh(force=True)
        assert peer_serial(url, trust) == second
    app.close()


def test_a_client_that_never_speaks_is_counted_and_ended(api: Api, made: Path) -> None:
    """Connections without a handshake hold slots of their peer, and a newcomer takes the place of the oldest."""
    app = create_app(
        Recorder(frozenset(api.operations)), keys=KeyRing([KEY]), settings=settings_for(made), clock=Clock(),
        ids=lambda: str(uuid.uuid4()), api=api,
    )  # fmt: skip
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("imagesmith.wire.server._connection_slots", lambda: PeerSlots(8, 4))
        certificate = ServerCertificate(CertificateFiles(made / "server.pem", made / "server.key"))
        url = stack.enter_context(running(app, tls=certificate))
        address = urlsplit(url)
        silent = [
            stack.enter_context(socket.create_connection((address.hostname, address.port or 0), timeout=30))
            for _ in range(12)
        ]
        assert peer_serial(url, context(made))
        ended = 0
        for connection in silent[:8]:
            try:
                ended += connection.recv(1) == b""
            except ConnectionResetError:
                ended += 1
        assert ended == 8
    app.close()


def _other_key(files: CertificateFiles, folder: Path) -> CertificateFiles:
    other = self_signed(folder / "other", "127.0.0.1", NOW)
    return CertificateFiles(files.certificate, other.key)


def _changed(name: str, content: bytes) -> Callable[[CertificateFiles, Path], CertificateFiles]:
    def change(files: CertificateFiles, _folder: Path) -> CertificateFiles:
        place: Path = getattr(files, name)
        place.write_bytes(content)
        return files

    return change


def _open_key(files: CertificateFiles, _folder: Path) -> CertificateFiles:
    files.key.chmod(0o644)
    return files


def _with_password(files: CertificateFiles, _folder: Path) -> CertificateFiles:
    argv = ["openssl", "pkey", "-in", str(files.key), "-aes256", "-passout", "pass:x"]
    files.key.write_bytes(subprocess.run(argv, check=True, capture_output=True).stdout)
    return files


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_other_key, "does not belong to the certificate"),
        (_changed("certificate", b""), "is not a certificate in PEM"),
        (_changed("certificate", b"\x30\x82"), "is not a certificate in PEM"),
        (_changed("key", b"nothing"), "is not a private key in PEM"),
        (_open_key, "chmod 600"),
        (_with_password, "has a password"),
        (lambda files, _: CertificateFiles(files.certificate.with_name("absent.pem"), files.key), "absent.pem"),
        (lambda files, _: CertificateFiles(files.certificate, files.key.with_name("absent.key")), "absent.key"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, change: Callable[[CertificateFiles, Path], CertificateFiles], told: str
) -> None:
    """Each with its path and what is wrong with it; no password is asked for at the terminal."""
    (tmp_path / "other").mkdir()
    files = self_signed(tmp_path, "127.0.0.1", NOW)
    with pytest.raises(TlsError) as caught:
        change(files, tmp_path).load()
    assert told in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("later", "told"),
    [
        (timedelta(), ""),
        (timedelta(days=-2), "is not valid before"),
        (timedelta(days=715), "expires at"),
        (timedelta(days=731), "expired at"),
    ],
)
def test_dates_of_a_certificate_are_warned_of(made: Path, later: timedelta, told: str) -> None:
    """Before it begins, in its last 30 days, and after its end."""
    warning = CertificateFiles(made / "server.pem", made / "server.key").warning(NOW + later)
    assert told in warning and bool(told) == bool(warning)


def test_a_certificate_is_made_again_when_it_must_be(tmp_path: Path) -> None:
    """Near its end, for another address, damaged: by the same authority, which clients keep."""
    files = self_signed(tmp_path, "192.0.2.7", NOW)
    authority = (tmp_path / "tls" / "ca.pem").read_bytes()
    first = files.certificate.read_bytes()
    assert self_signed(tmp_path, "192.0.2.7", NOW).certificate.read_bytes() == first
    assert self_signed(tmp_path, "127.0.0.1", NOW).certificate.read_bytes() == first
    seen = {first}
    for host, later in (("images.example", timedelta()), ("images.example", timedelta(days=710))):
        seen.add(self_signed(tmp_path, host, NOW + later).certificate.read_bytes())
    files.key.write_bytes(b"damaged")
    seen.add(self_signed(tmp_path, "images.example", NOW).certificate.read_bytes())
    assert len(seen) == 4
    assert (tmp_path / "tls" / "ca.pem").read_bytes() == authority
    (tmp_path / "tls" / "ca.key").write_bytes(b"damaged")
    with pytest.raises(TlsError, match="the authority in"):
        self_signed(tmp_path, "images.example", NOW)


def test_the_condition_on_secure_transport_is_true_over_tls(
    server: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request knows how it came; see policies/test_access_policies.py for what policies make of it."""
    seen: list[Request] = []
    real = ApiService.answer

    def answer(service: ApiService, request: Request) -> Response:
        seen.append(request)
        return real(service, request)

    monkeypatch.setattr(ApiService, "answer", answer)
    for name, value in environment(server, AWS_CA_BUNDLE=str(made / "ca.pem")).items():
        monkeypatch.setenv(name, value)
    client = boto3.client("imagebuilder")
    client.list_images()
    client.close()
    assert [(request.secure, request.address) for request in seen] == [(True, "127.0.0.1")]
