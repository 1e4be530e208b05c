"""The page tokens of key listings: the last key of the page, wrapped so that nobody parses it."""

from __future__ import annotations

import base64

from pillion.errors import Invalid

_MARK = b"k"


def token_after(key: str) -> str:
    """Return the token of the page behind ``key``."""
    return base64.urlsafe_b64encode(_MARK + key.encode()).decode()


def key_after(token: str | None) -> str | None:
    """Return the key behind which a page begins; None for the first page.

    Raises:
        Invalid: the token is none that a listing was answered with.
    """
    if token is None:
        return None
    try:
        content = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if content[:1] == _MARK:
            return content[1:].decode()
    except ValueError:
        pass
    raise Invalid("the page token is none that this store gave; start at the first page again")


__all__ = ["key_after", "token_after"]
