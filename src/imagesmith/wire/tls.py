"""The certificate of the server: read, checked, and read again when its files change or on SIGHUP.

    files --load--> SSLContext, for new connections --changed, or SIGHUP--> load --usable--> the new one
                                                                              '--else--> the old one; logged

Connections that are open keep the certificate that they began with.
"""

from __future__ import annotations

import logging
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_log = logging.getLogger(__name__)

FOLDER: Final = "tls"
AUTHORITY: Final = "ca.pem"
"""The certificate that clients trust, beside one that the server made itself."""
EXPIRES_SOON: Final = timedelta(days=30)
_OTHERS: Final = 0o007


class TlsError(RuntimeError):
    """A certificate or key that cannot be used: names the file and what to do."""


@dataclass(frozen=True)
class CertificateFiles:
    """Files in PEM: the certificate with its chain, and its key without a password."""

    certificate: Path
    key: Path

    @classmethod
    def of_data_dir(cls, data_dir: Path) -> CertificateFiles:
        """The files of a certificate that the server made itself (self_signed.py)."""
        folder = data_dir / FOLDER
        return cls(certificate=folder / "server.pem", key=folder / "server.key")

    def load(self) -> ssl.SSLContext:
        """A context for TLS 1.2 and 1.3. Raises TlsError."""
        try:
            if stat.S_IMODE(self.key.stat().st_mode) & _OTHERS:
                raise TlsError(
                    f"the key {self.key} can be read by every user of this machine: chmod 600 {self.key}"
                )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            # an encrypted key would ask for its password at the terminal
            context.load_cert_chain(self.certificate, self.key, password=self._no_password)
        except ssl.SSLError as error:
            raise TlsError(self._reason(error)) from error
        except OSError as error:
            raise TlsError(f"{error.filename or self.certificate} cannot be read: {error.strerror}") from error
        return context

    def _no_password(self) -> str:
        raise TlsError(f"the key {self.key} has a password, which a server cannot type: store it without one")

    def _reason(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the key {self.key} does not belong to the certificate {self.certificate}"
        for path, mark in ((self.certificate, b"-----BEGIN CERTIFICATE"), (self.key, b"PRIVATE KEY-----")):
            if mark not in path.read_bytes():
                return f"{path} is not a {'certificate' if path == self.certificate else 'private key'} in PEM"
        return f"the certificate {self.certificate} with the key {self.key} cannot be used: {error.reason or error}"

    def stamp(self) -> tuple[object, ...]:
        """Differs once one of the files was written or replaced."""
        try:
            found = [path.stat() for path in (self.certificate, self.key)]
        except OSError:
            return ()
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in found)

    def read_certificate(self) -> Certificate:
        """The certificate of the server, which is the first of its file. Raises TlsError."""
        from cryptography import x509

        try:
            return x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise TlsError(f"the certificate {self.certificate} cannot be read: {error}") from error

    def warning(self, now: datetime) -> str:
        """What is wrong with the dates of the certificate; empty when nothing is. Raises TlsError."""
        found = self.read_certificate()
        if now < found.not_valid_before_utc:
            start = f"{found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            return f"the certificate {self.certificate} is not valid before {start}"
        left = found.not_valid_after_utc - now
        until = f"{found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        if left <= timedelta(0):
            return f"the certificate {self.certificate} expired at {until}: clients refuse it"
        return f"the certificate {self.certificate} expires at {until}" if left < EXPIRES_SOON else ""

    def first_name(self) -> str:
        """The first host name of the certificate that is not a pattern; empty if it has none. Raises TlsError."""
        from cryptography import x509

        try:
            names = self.read_certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ""
        return next((name for name in names.get_values_for_type(x509.DNSName) if "*" not in name), "")


class ServerCertificate:
    """The context of new connections."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises TlsError."""
        self.files = files
        self._stamp = files.stamp()
        self.context = files.load()
        _warn(files)

    def refresh(self, *, force: bool = False) -> None:
        """Read the files again if they changed; what cannot be used is logged and changes nothing."""
        stamp = self.files.stamp()
        if not force and (stamp == self._stamp or not stamp):
            return
        self._stamp = stamp
        try:
            self.context = self.files.load()
        except TlsError as error:
            # a tool may have written only one of the files yet: its second write is another change
            _log.error("the certificate is not changed: %s", error)
            return
        _log.warning("the certificate %s was read again", self.files.certificate)
        _warn(self.files)


def _warn(files: CertificateFiles) -> None:
    warning = files.warning(datetime.now(UTC))
    if warning:
        _log.warning("%s", warning)
