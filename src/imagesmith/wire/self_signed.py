"""A certificate of the server's own, for a start without a certificate authority.

    DATA/tls/
      ca.pem        the authority of this data directory: what clients trust (AWS_CA_BUNDLE); valid for ten years
      ca.key        its key, mode 0600
      server.pem    the certificate of the server and the authority's, valid for two years
      server.key    its key, mode 0600

The server's certificate is made again at a start when it ends within 30 days or lacks a name; clients keep the
authority and notice nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagesmith.files import READABLE, write_atomically
from imagesmith.wire.tls import AUTHORITY, EXPIRES_SOON, CertificateFiles, TlsError

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_SERVER_LIFE: Final = timedelta(days=730)
_ALLOWANCE: Final = timedelta(hours=1)
"""How far the clock of a client may be behind."""
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class _Issuer:
    """The authority of a data directory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def self_signed(data_dir: Path, host: str, now: datetime) -> CertificateFiles:
    """The certificate of a data directory for this host, made if needed. Raises TlsError, OSError."""
    files = CertificateFiles.of_data_dir(data_dir)
    folder = files.key.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    names = _names(host)
    issuer = _issuer(folder, now)
    if not _serves(files, issuer, names, now):
        _issue(files, issuer, names, now)
    return files


def _names(host: str) -> tuple[str, ...]:
    """The names that clients may use: this machine's, and the address that the server listens on."""
    wanted = [*_ALWAYS, socket.gethostname(), host]
    return tuple(dict.fromkeys(name for name in wanted if name and name not in ("0.0.0.0", "::")))  # noqa: S104


def _serves(files: CertificateFiles, issuer: _Issuer, names: tuple[str, ...], now: datetime) -> bool:
    """Whether the certificate that is there can be used for a while."""
    try:
        files.load()
        found = files.read_certificate()
        found.verify_directly_issued_by(issuer.certificate)
    except Exception:  # noqa: BLE001, RUF100 - absent, damaged or of another authority: it is made again
        return False
    return found.not_valid_after_utc - now > EXPIRES_SOON and set(names) <= set(_names_of(found))


def _names_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _issuer(folder: Path, now: datetime) -> _Issuer:
    """The authority; made at the first start. Raises TlsError."""
    certificate_file, key_file = folder / AUTHORITY, folder / "ca.key"
    if not certificate_file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _subject(f"imagesmith {socket.gethostname()}"[:64])
        built = _builder(name, name, key, now, _AUTHORITY_LIFE).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = _usage(signs_certificates=True)
        certificate = _signed(built.add_extension(usage, critical=True), key)
        # the certificate last: with it, the key is there
        write_atomically(key_file, _pem_of_key(key))
        write_atomically(certificate_file, _pem(certificate), mode=READABLE)
    try:
        loaded = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("it is not an EC key")
        return _Issuer(x509.load_pem_x509_certificate(certificate_file.read_bytes()), loaded)
    except (OSError, ValueError, TypeError) as error:
        raise TlsError(
            f"the authority in {folder} cannot be used: {error}: restore ca.pem and ca.key from a backup, or "
            "remove both; clients need the new ca.pem then"
        ) from error


def _issue(files: CertificateFiles, issuer: _Issuer, names: tuple[str, ...], now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    built = _builder(_subject(names[-1][:64]), issuer.certificate.subject, key, now, _SERVER_LIFE)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    built = (
        built.add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False)
    )
    write_atomically(files.key, _pem_of_key(key))
    write_atomically(files.certificate, _pem(_signed(built, issuer.key)) + _pem(issuer.certificate), mode=READABLE)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _ALLOWANCE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signed(built: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return built.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
