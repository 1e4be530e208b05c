"""X.509 certificates of roots and runtimes (RFC 5280, SPIFFE X.509-SVID).

Importing this costs about 20 ms and 8 MiB, so it is imported where a certificate is made.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pillion.call import Identity
from pillion.identity.roots import Root
from pillion.identity.tls import Credentials

CLOCK_SKEW = 300.0
"""Seconds by which certificates are valid before they are made, for clocks that disagree."""


def new_root(trust_domain: str, *, now: float, lifetime: float) -> Root:
    """Make a root with a fresh P-256 key, valid for ``lifetime`` seconds, that may issue at once.

    Args:
        trust_domain: also its SPIFFE ID, ``spiffe://<trust-domain>``.
        now: seconds since the epoch.
        lifetime: seconds.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Roots of one trust domain must differ by name: verifiers look issuers up by it.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Pillion"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"root {serial:040x}"),
        ]
    )
    not_before, not_after = _seconds(now - CLOCK_SKEW), _seconds(now + lifetime)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(root=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_names(f"spiffe://{trust_domain}"), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Root(
        certificate=certificate.public_bytes(Encoding.PEM).decode(),
        key=_pem(key).decode(),
        not_before=not_before.timestamp(),
        not_after=not_after.timestamp(),
    )


def check_root(root: Root, trust_domain: str) -> None:
    """Check that ``root`` is one of ``trust_domain`` and that its parts belong together.

    Raises:
        ValueError: they do not, or one cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(root.certificate.encode())
        _signing_key(root, certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise ValueError(str(error)) from error
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [f"spiffe://{trust_domain}"]:
        raise ValueError(f"the root is not one of trust domain {trust_domain}")
    validity = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    if tuple(edge.timestamp() for edge in validity) != (root.not_before, root.not_after):
        raise ValueError("the root's validity is not that of its certificate")


def new_leaf(identity: Identity, root: Root, *, now: float, lifetime: float) -> Credentials:
    """Issue a certificate for one runtime, with a fresh P-256 key, for both ends of a connection.

    Args:
        identity: whose it is.
        root: the issuer; the certificate ends before it does.
        now: seconds since the epoch.
        lifetime: seconds.
    """
    issuer = x509.load_pem_x509_certificate(root.certificate.encode())
    signing_key = _signing_key(root, issuer)
    key = ec.generate_private_key(ec.SECP256R1())
    not_before, not_after = _seconds(now - CLOCK_SKEW), _seconds(now + lifetime)
    certificate = (
        x509.CertificateBuilder(
            issuer.subject,
            x509.Name([]),
            key.public_key(),
            x509.random_serial_number(),
            not_before,
            not_after,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(root=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        # Critical because the subject is empty (RFC 5280, section 4.2.1.6).
        .add_extension(_names(identity.uri), critical=True)
        .sign(signing_key, hashes.SHA256())
    )
    return Credentials(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=_pem(key),
        issued=now,
        expires=not_after.timestamp(),
    )


def _signing_key(root: Root, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(root.key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the root's key is not one on an elliptic curve")  # noqa: TRY004 - content
    if key.public_key() != certificate.public_key():
        raise ValueError("the root's key does not belong to its certificate")
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _names(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _seconds(epoch: float) -> datetime:
    # Certificates count whole seconds.
    return datetime.fromtimestamp(int(epoch), UTC)


def _usage(*, root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not root,
        key_cert_sign=root,
        crl_sign=root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
