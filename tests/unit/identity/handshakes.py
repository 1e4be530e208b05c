"""Handshakes in memory, and certificates that the authority would never issue."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pillion.identity.authority import Authority
from pillion.identity.tls import Credentials, MeshTls


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Connect the two and return the server's and the client's end, or raise what either raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(down, up)
    callee = server.wrap_bio(up, down, server_side=True)
    for end in (caller, callee, caller, callee):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return callee, caller


def meet(one: MeshTls, other: MeshTls) -> None:
    """Connect two runtimes both ways and let each check who the other is."""
    for server, client in ((one, other), (other, one)):
        callee, caller = shake_hands(server.server, client.client)
        assert server.peer(callee) == client.identity
        assert client.peer(caller) == server.identity


def forged(
    authority: Authority,
    names: Sequence[x509.GeneralName] | None,
    usage: x509.ObjectIdentifier | None = None,
) -> Credentials:
    """Return a certificate that the authority's root signed, with any names at all."""
    root = authority._set.roots[-1]
    issuer = x509.load_pem_x509_certificate(root.certificate.encode())
    signing_key = load_pem_private_key(root.key.encode(), password=None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer.subject,
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "forged")]),
        key.public_key(),
        x509.random_serial_number(),
        now - timedelta(minutes=1),
        now + timedelta(minutes=5),
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
        critical=False,
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    certificate = builder.sign(signing_key, hashes.SHA256())
    return Credentials(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        issued=time.time(),
        expires=time.time() + 300,
    )


def plain_context(protocol: int, credentials: Credentials | None, roots: bytes) -> ssl.SSLContext:
    """Return a context of the standard library alone, as a peer that is not ours has one."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["pillion/1"])
    context.load_verify_locations(cadata=roots.decode())
    if credentials is not None:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(credentials.key + credentials.certificate)
            file.flush()
            context.load_cert_chain(file.name)
    return context
