"""What `serve` listens with: the certificate, and the rule that nothing leaves this machine in the clear."""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime
from pathlib import Path

from imagesmith.cli.context import CommandFailed, ServerAddress, url_of
from imagesmith.settings import Settings
from imagesmith.wire.tls import AUTHORITY, CertificateFiles, ServerCertificate, TlsError

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Addresses that stand for all of the machine, and where its own commands find it then."""


def require_private_bind(settings: Settings) -> None:
    """Refuse to listen beyond this machine in the clear. Raises CommandFailed."""
    if settings.insecure_bind or _is_loopback(settings.host):
        return
    if settings.auth == "none":
        raise CommandFailed(
            f'listening on {settings.host} with auth = "none" would let every client that reaches it run builds',
            'use auth = "static", or --insecure-bind in a network that no stranger reaches',
        )
    if not (settings.tls.self_signed or settings.tls.certificate):
        raise CommandFailed(
            f"listening on {settings.host} without TLS would send documents and answers in the clear",
            "use --tls-self-signed, or --tls-certificate and --tls-key; or --insecure-bind behind a proxy that "
            "speaks TLS. See docs/operations.md, TLS",
        )


def open_certificate(settings: Settings) -> ServerCertificate | None:
    """The certificate of the settings; None for plain HTTP. Raises CommandFailed."""
    try:
        files = certificate_files(settings, make=True)
        return None if files is None else ServerCertificate(files)
    except TlsError as error:
        raise CommandFailed(str(error), "see docs/operations.md, TLS") from error


def certificate_files(settings: Settings, *, make: bool = False) -> CertificateFiles | None:
    """The files of the certificate; `make`: a self-signed one is made if needed. Raises TlsError, OSError."""
    if settings.tls.certificate:
        return CertificateFiles(certificate=Path(settings.tls.certificate), key=Path(settings.tls.key))
    made = CertificateFiles.of_data_dir(settings.data_dir)
    if not settings.tls.self_signed:
        # a server may have been started with --tls-self-signed
        return made if made.certificate.exists() and not make else None
    if not make:
        return made
    # imported late: most starts make no certificate
    from imagesmith.wire.self_signed import self_signed

    return self_signed(settings.data_dir, settings.host, datetime.now(UTC))


def address_of(settings: Settings, port: int, pid: int, certificate: ServerCertificate | None) -> ServerAddress:
    """How clients on this machine reach the server."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    if certificate is None:
        return ServerAddress(url_of("http", host, port), pid)
    if settings.tls.self_signed:
        return ServerAddress(
            url_of("https", host, port), pid, str(certificate.files.certificate.with_name(AUTHORITY))
        )
    return ServerAddress(url_of("https", certificate.files.first_name() or host, port), pid, settings.tls.authority)


def _is_loopback(host: str) -> bool:
    """Whether every address of the host is on this machine alone; a name without an address fails later."""
    try:
        addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError:
        return True
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
