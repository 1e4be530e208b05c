"""Where an invocation goes: target forms and path normalisation.

The path is decoded once and cleaned once, and access rules and dispatch both see the result, so
there is no second reading on which they could differ.
"""

from __future__ import annotations

import posixpath
import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pillion.errors import Invalid

CODE = "ERR_DIRECT_INVOKE"
_PLAIN = re.compile(rb"/?(?:[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9_~!$&'()*+,;=:@.-]*/)*"
                    rb"(?:[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9_~!$&'()*+,;=:@.-]*)?")  # fmt: skip
_FORBIDDEN = re.compile(rb"[\x00-\x1f\x7f#?%]")
_APP_ID = re.compile(r"[A-Za-z0-9_-]+")
_SAFE = "/!$&'()*+,;=:@-._~"


def normalise(method: bytes, app_id: str) -> bytes:
    """Return the escaped absolute path that an escaped method stands for.

    >>> normalise(b"admin%2F..%2Fpublic", "app")
    b'/public'

    Raises:
        Invalid: decoded, it holds ``#``, ``?``, ``%`` or a control character.
    """
    if _PLAIN.fullmatch(method):
        path = method.rstrip(b"/")
        return path if path[:1] == b"/" else b"/" + path
    decoded = unquote_to_bytes(method)
    if _FORBIDDEN.search(decoded):
        raise Invalid(
            f"failed to invoke, id: {app_id}, err: the method holds a character "
            "that no path may hold",
            code=CODE,
            reason="bad-method",
            reached=False,
        )
    clean = posixpath.normpath(b"/" + decoded.lstrip(b"/"))
    return quote_from_bytes(clean, safe=_SAFE).encode()


@dataclass(frozen=True, slots=True)
class Address:
    """A target as the request names it.

    Attributes:
        name: an app id with or without ``.namespace``, an HTTPEndpoint's name, or a URL.
        method: the escaped method as sent.
        is_url: True when ``name`` is ``http(s)://host:port``.
    """

    name: str
    method: bytes
    is_url: bool = False


def split_app_id(name: str) -> tuple[str, str]:
    """Split ``app`` or ``app.namespace``; the namespace is empty when it is not given.

    Raises:
        Invalid: it is empty, has two or more dots, or other characters than app ids have.
    """
    app_id, dot, namespace = name.partition(".")
    if _APP_ID.fullmatch(app_id) and (not dot or _APP_ID.fullmatch(namespace)):
        return app_id, namespace
    raise Invalid(
        f"failed to invoke, id: {name}, err: invalid app id {name!r}: "
        "letters, digits, '-' and '_', with at most one '.namespace'",
        code=CODE,
        reason="bad-app-id",
        reached=False,
    )


def from_basic(authorization: bytes) -> str | None:
    """Return the app id in ``Basic base64("dapr-app-id:<app id>")``, or None."""
    scheme, _space, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _colon, app_id = b64decode(encoded.strip(), validate=True).partition(b":")
    except (Base64Error, ValueError):
        return None
    return app_id.decode("latin-1") if user == b"dapr-app-id" and app_id else None


def from_path(rest: bytes) -> Address | None:
    """Return the address in what follows ``/v1.0/invoke/``; None without ``/method/``.

    >>> from_path(b"http://localhost:80/method/a/b")
    Address(name='http://localhost:80', method=b'a/b', is_url=True)
    """
    target, separator, method = rest.partition(b"/method/")
    if not separator:
        if not rest.endswith(b"/method"):
            return None
        target, method = rest[: -len(b"/method")], b""
    name = unquote_to_bytes(target).decode("utf-8", "replace")
    scheme, colon, host = name.partition(":/")
    if colon and scheme.lower() in ("http", "https"):
        return Address(f"{scheme.lower()}://{host.strip('/')}", method, is_url=True)
    return Address(name, method) if name else None
