"""Certificates for servers in tests: an authority, a server on this machine, and one client."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Files:
    """Where they are, as PEM."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


def authority(folder: Path, client: str = "root") -> Files:
    """Make all of them; the client certificate's common name is ``client``."""
    folder.mkdir(parents=True)
    files = Files(
        *(folder / name for name in ("ca.pem", "cert.pem", "key.pem", "client.pem", "client.key"))
    )
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _signed("test authority", ca_key, None, ca_key)
    files.ca.write_bytes(_pem(ca))
    for name, cert, key in (
        ("localhost", files.cert, files.key),
        (client, files.client_cert, files.client_key),
    ):
        private = ec.generate_private_key(ec.SECP256R1())
        cert.write_bytes(_pem(_signed(name, private, ca, ca_key)))
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return files


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
