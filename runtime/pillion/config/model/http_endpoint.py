"""``kind: HTTPEndpoint``: a service outside of the mesh that apps call by name."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from pillion.config.http_endpoint import ClientTLS, HTTPEndpoint
from pillion.config.model._base import Model, Scoped
from pillion.config.model._fields import choice, converted, refuse
from pillion.config.model._references import Auth, NamedValue, PemSource, resolve
from pillion.config.nodes import Path
from pillion.config.reading import Reading

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]+\]")
_PATH = re.compile(r"(?:[A-Za-z0-9/._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile("[\x00-\x08\n-\x1f\x7f\ud800-\udfff]")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s+[A-Za-z0-9+/=\s:,-]*?-----END \1-----", re.ASCII)
_FRAMING = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"upgrade"}
)
"""Headers that say how a message is sent; they are the runtime's."""


def _base_url(text: str) -> str:
    expected = "must be http(s)://host[:port][/path]"
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in text:
        refuse(f"{expected} without user and password; put them into a header", quote=False)
    if not separator or scheme.lower() not in ("http", "https"):
        refuse(f"{expected} with http or https")
    if not text.isascii():
        refuse(f"{expected} in ASCII; write an international name in its xn-- form")
    if "?" in rest or "#" in rest:
        refuse(f"{expected} without ? and #", quote=False)
    if not _PATH.fullmatch(path):
        refuse(f"{expected} with a path whose special characters are escaped")
    try:
        port = urlsplit(f"//{authority}").port
    except ValueError:
        refuse(f"{expected} with a valid host and a port of 1 to 65535")
    host = authority if port is None else authority[: authority.rfind(":")]
    if port == 0 or not _HOST.fullmatch(host.removesuffix(":")):
        refuse(f"{expected} with a valid host and a port of 1 to 65535")
    shown = host.removesuffix(":").lower() + (f":{port}" if port is not None else "")
    return f"{scheme.lower()}://{shown}{slash}{path}".rstrip("/")


class TLS(Model):
    """How the endpoint is reached over TLS."""

    root_ca: PemSource | None = Field(None, alias="rootCA")
    certificate: PemSource | None = None
    private_key: PemSource | None = None
    renegotiation: Annotated[str, choice("Never", "OnceAsClient", "FreelyAsClient")] = "Never"


def _header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        refuse("must be the name of a header: letters, digits and -, without spaces")
    if text.lower() in _FRAMING:
        refuse("must not be a header that the runtime sets itself")
    return text


class Header(NamedValue):
    """A header to set."""

    name: Annotated[str, converted("the name of a header", _header_name)]


class Spec(Model):
    """Where the endpoint is, and what is sent along."""

    base_url: Annotated[str, converted("a URL", _base_url)]
    headers: tuple[Header, ...] = ()
    client_tls: TLS | None = Field(None, alias="clientTLS")


class HTTPEndpointResource(Scoped):
    """A document of this kind."""

    KIND: ClassVar[str] = "HTTPEndpoint"
    API_VERSIONS: ClassVar[tuple[str, ...]] = ("dapr.io/v1alpha1",)

    spec: Spec
    auth: Auth = Field(default_factory=Auth.model_construct)

    def build(self, reading: Reading) -> HTTPEndpoint | None:
        """Return the endpoint, its values resolved."""
        name = self.metadata.name or ""
        if not _NAME.fullmatch(name):
            problem = "must not have slashes, spaces or control characters: it is part of a URL"
            reading.problem(("metadata", "name"), problem)
        headers = [
            self._header(header, ("spec", "headers", index), reading)
            for index, header in enumerate(self.spec.headers)
        ]
        tls = self._tls(reading)
        return HTTPEndpoint(
            name=name,
            base_url=self.spec.base_url,
            headers=tuple(header for header in headers if header is not None),
            tls=tls,
        )

    def _header(self, header: Header, path: Path, reading: Reading) -> tuple[bytes, bytes] | None:
        value = resolve(header, path, reading, self.auth.secret_store)
        if value is None:
            return None
        if _CONTROL.search(value):
            reading.problem(path, "has a value with line breaks or control characters")
        return header.name.encode(), value.strip().encode()

    def _tls(self, reading: Reading) -> ClientTLS | None:
        tls = self.spec.client_tls
        if tls is None:
            return None
        path = ("spec", "clientTLS")
        if tls.renegotiation != "Never":
            problem = "has no effect: TLS 1.3 has no renegotiation, and it is never allowed here"
            reading.notice((*path, "renegotiation"), problem)
        if self.spec.base_url.startswith("http:"):
            reading.notice(path, "has no effect: baseUrl starts with http://", warning=True)
        if (tls.certificate is None) != (tls.private_key is None):
            reading.problem(path, "needs certificate and privateKey together, or neither")
        return ClientTLS(
            root_ca=self._pem(tls.root_ca, (*path, "rootCA"), "CERTIFICATE", reading),
            certificate=self._pem(tls.certificate, (*path, "certificate"), "CERTIFICATE", reading),
            private_key=self._pem(tls.private_key, (*path, "privateKey"), "PRIVATE KEY", reading),
        )

    def _pem(
        self, source: PemSource | None, path: Path, label: str, reading: Reading
    ) -> str | None:
        if source is None:
            return None
        text = resolve(source, path, reading, self.auth.secret_store)
        if text is None:
            return None
        labels = _PEM.findall(text)
        if not any(found.endswith(label) for found in labels):
            reading.problem(path, f"must be PEM text with -----BEGIN {label}-----")
        elif any(found.startswith("ENCRYPTED") for found in labels):
            reading.problem(path, "must be a private key without a password")
        return text


KINDS = (HTTPEndpointResource,)
