"""Mutual TLS 1.3 between runtimes, whose certificate and roots change while connections live.

Renewal builds new contexts and swaps them in. Changing a live ``ssl.SSLContext`` instead has two
flaws: a failed ``load_cert_chain`` leaves it broken for every later handshake, and a root cannot
be taken away from it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pillion.call import Identity
from pillion.errors import Invalid, NotAllowed
from pillion.identity.spiffe import identify

Context = TypeVar("Context", bound=ssl.SSLContext)

ALPN = "pillion/1"
"""What runtimes speak on these connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A certificate and its key.

    Attributes:
        certificate: PEM.
        key: PEM, never written to a disk.
        issued: seconds since the epoch.
        expires: seconds since the epoch.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    issued: float
    expires: float


class RenewableContext(ssl.SSLContext):
    """A context that stays the same object while :attr:`current` does the work.

    Itself it has neither certificate nor roots: whoever reaches around it fails to shake hands.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection in memory, as asyncio and uvloop do."""
        return self.current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Begin a connection on a blocking socket."""
        return self.current.wrap_socket(*args, **kwargs)


class MeshTls:
    """Both sides of the connections of one runtime.

    Attributes:
        identity: who this runtime is.
        server: for the mesh listener; stays the same object for ever.
        client: for the pool; stays the same object for ever.
        issued: when the present certificate was issued, in seconds since the epoch.
        expires: when it ends, in seconds since the epoch.
    """

    __slots__ = ("_scratch", "client", "expires", "identity", "issued", "server")

    def __init__(
        self,
        identity: Identity,
        credentials: Credentials,
        roots: bytes,
        *,
        scratch: Path | None = None,
    ) -> None:
        """Check that the parts fit by a handshake in memory; takes 4 ms of processor time.

        Args:
            identity: what the certificate must say.
            credentials: the first ones.
            roots: the trusted certificates, PEM.
            scratch: a directory of this user's alone, for the instant in which the key needs a
                path, on systems without anonymous files; None for the temporary directory.

        Raises:
            Invalid: the parts do not fit together, or not the clock.
        """
        self.identity = identity
        self._scratch = scratch
        self.server = _context(RenewableContext, ssl.PROTOCOL_TLS_SERVER)
        self.client = _context(RenewableContext, ssl.PROTOCOL_TLS_CLIENT)
        self.renew(credentials, roots)

    def renew(self, credentials: Credentials, roots: bytes) -> None:
        """Use other credentials and roots from the next handshake on; old connections go on.

        Takes 4 ms of processor time and may run in a thread.

        Raises:
            Invalid: the parts do not fit together, or not the clock; nothing has changed.
        """
        server = _context(ssl.SSLContext, ssl.PROTOCOL_TLS_SERVER)
        client = _context(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT)
        try:
            with _key_file(credentials, self._scratch) as path:
                for context in (server, client):
                    context.load_cert_chain(path)
                    context.load_verify_locations(cadata=roots.decode("ascii"))
            ends = _shake_hands(server, client)
            if any(identify(end) != self.identity for end in ends):
                raise Invalid(f"the certificate is not one of {self.identity.uri}")
        except ssl.SSLCertVerificationError as error:
            raise Invalid(
                f"the certificate of {self.identity.uri} is refused by its own roots: "
                f"{error.verify_message}; check the clock of this machine"
            ) from error
        except (ssl.SSLError, ValueError) as error:
            raise Invalid(
                f"certificate, key and roots of {self.identity.uri} do not fit together: {error}"
            ) from error
        except NotAllowed as error:
            raise Invalid(f"the certificate is not one of {self.identity.uri}") from error
        # Between the two assignments either side still works: its parts belong together.
        self.server.current = server
        self.client.current = client
        self.issued = credentials.issued
        self.expires = credentials.expires

    def peer(self, ssl_object: ssl.SSLObject | ssl.SSLSocket) -> Identity:
        """Return who is at the other end of a connection whose handshake is over.

        Raises:
            NotAllowed: it has no identity, one of another trust domain, or does not speak
                ``pillion/1``.
        """
        identity = identify(ssl_object)
        if identity.trust_domain != self.identity.trust_domain:
            raise NotAllowed(
                f"the peer {identity.uri} is not of trust domain {self.identity.trust_domain}",
                reason="peer-identity",
                reached=False,
            )
        if ssl_object.selected_alpn_protocol() != ALPN:
            raise NotAllowed(
                f"the peer {identity.uri} does not speak {ALPN}",
                reason="peer-protocol",
                reached=False,
            )
        return identity


def _context(kind: type[Context], protocol: int) -> Context:
    context = kind(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # apps have identities, not host names; see peer()
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols([ALPN])
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # A resumed session would skip the certificates, and tickets cost two messages each.
        context.num_tickets = 0
    return context


def _shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Connect the two in memory and return both ends."""
    upward, downward = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(downward, upward)
    callee = server.wrap_bio(upward, downward, server_side=True)
    for end in (caller, callee, caller, callee):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return caller, callee


@contextmanager
def _key_file(credentials: Credentials, scratch: Path | None) -> Iterator[str]:
    """Give certificate and key a path for a moment, because OpenSSL reads them from one."""
    data = credentials.key + credentials.certificate
    descriptor = _anonymous_file()
    if descriptor is None:
        with _short_lived_file(data, scratch) as path:
            yield path
        return
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _anonymous_file() -> int | None:
    """Return a file in memory that has a path, where the system has such."""
    if not hasattr(os, "memfd_create") or not Path("/proc/self/fd").exists():
        return None
    try:
        return os.memfd_create("pillion", os.MFD_CLOEXEC)
    except OSError:
        return None


@contextmanager
def _short_lived_file(data: bytes, scratch: Path | None) -> Iterator[str]:
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix=".key-", dir=scratch)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        Path(path).unlink()
