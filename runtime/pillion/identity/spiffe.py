"""SPIFFE identities: ``spiffe://<trust-domain>/ns/<namespace>/<app-id>``.

The character sets are those of the SPIFFE-ID specification, section 2; the shape of the path is
Dapr's. Anything else is refused, so that no two spellings name one app.
"""

from __future__ import annotations

import re
import ssl
from typing import cast

from pillion.call import Identity
from pillion.errors import Invalid, NotAllowed

MAX_LENGTH = 2048
"""Bytes in an identity (SPIFFE-ID, section 2.3)."""

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))([A-Za-z0-9._-]+)"
_ID = re.compile(rf"spiffe://([a-z0-9][a-z0-9._-]{{0,254}})/ns/{_SEGMENT}/{_SEGMENT}")


def parse_id(uri: str) -> Identity:
    """Read an identity.

    Raises:
        Invalid: ``uri`` is anything else, however slightly.
    """
    match = _ID.fullmatch(uri) if len(uri) <= MAX_LENGTH else None
    if match is None:
        raise Invalid(
            f"{uri[:200]!r} is not an identity: spiffe://<trust-domain>/ns/<namespace>/<app-id>, "
            "with lower-case letters, digits and '.-_' in the trust domain and letters, digits "
            "and '.-_' in the rest",
            reason="peer-identity",
        )
    return Identity(match[1], match[2], match[3])


def identify(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> Identity:
    """Return the identity in the certificate of the peer, after the handshake.

    The certificate was verified by the handshake; this reads whose it is: exactly one URI among
    its alternative names (SPIFFE X.509-SVID, section 2).

    Raises:
        NotAllowed: there is no such identity.
    """
    try:
        certificate = ssl_object.getpeercert()
    except ValueError as error:  # no handshake yet, or a name that is not text
        raise _refused("has no certificate that can be read") from error
    if not certificate:
        raise _refused("showed no certificate")
    others = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    names = [value for kind, value in others if kind == "URI"]
    if len(names) != 1:
        raise _refused(f"has {len(names)} URI names in its certificate and must have one")
    try:
        return parse_id(names[0])
    except Invalid as error:
        raise _refused(f"has a wrong name in its certificate: {error.message}") from error


def _refused(why: str) -> NotAllowed:
    return NotAllowed(f"the peer {why}", reason="peer-identity", reached=False)
