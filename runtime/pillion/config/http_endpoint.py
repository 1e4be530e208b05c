"""A service outside of the mesh that apps call by name."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLS:
    """How a runtime proves itself to an HTTP endpoint, and whom it trusts; PEM text.

    Attributes:
        root_ca: certificates to trust instead of the system's, or None.
        certificate: the client's certificate and what leads up to its root, or None.
        private_key: the key of ``certificate``; there when that is.
    """

    root_ca: str | None = None
    certificate: str | None = None
    private_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPEndpoint:
    """One service.

    Attributes:
        name: what apps call it.
        base_url: ``http(s)://host[:port][/path]``, ASCII, without a slash at the end.
        headers: set over those of the caller.
        tls: None for the defaults.
    """

    name: str
    base_url: str
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    tls: ClientTLS | None = None
