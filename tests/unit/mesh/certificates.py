"""Small authorities and certificates for tests of TLS connections."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pillion.call import Identity
from pillion.errors import NotAllowed

PREFIX = "spiffe://"


class Authority:
    """Issues certificates that name an identity."""

    def __init__(self, folder: Path, name: str = "test") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            _builder(self._name, self._name)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def contexts(
        self,
        uri: str,
        *,
        trust: str | None = None,
        alpn: str = "pillion/1",
    ) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """Return a server's and a client's context for ``uri``, which trust ``trust``."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(x509.Name([]), self._name)
            .public_key(key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True
            )
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{certificate.serial_number:x}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        pair = []
        for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(side)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(path)
            context.load_verify_locations(cadata=trust or self.root)
            context.set_alpn_protocols([alpn])
            pair.append(context)
        return pair[0], pair[1]


def identify(tls: ssl.SSLObject) -> Identity:
    """Read the identity in a peer's certificate, as a runtime does."""
    names = [value for kind, value in tls.getpeercert()["subjectAltName"] if kind == "URI"]
    parts = names[0][names[0].index(PREFIX) + len(PREFIX) :].split("/")
    if len(parts) != 4 or parts[1] != "ns":
        raise NotAllowed(f"{names[0]} is not an identity", reason="peer-identity")
    return Identity(parts[0], parts[2], parts[3])


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
