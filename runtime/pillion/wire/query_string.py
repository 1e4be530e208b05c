"""The query parameters of an API request."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from pillion.errors import Invalid

_MOST = 256
_METADATA = "metadata."


def parameters(query: bytes) -> dict[str, str]:
    """Return the parameters of a query string; of those that come twice, the first.

    Raises:
        Invalid: there are more than 256.
    """
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST)
    except ValueError:
        raise Invalid(
            f"the URL has more than {_MOST} query parameters; send them in several requests",
            code="ERR_MALFORMED_REQUEST",
        ) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def metadata_of(found: Mapping[str, str]) -> dict[str, str]:
    """Return the request metadata: parameters that begin with ``metadata.``, without that."""
    start = len(_METADATA)
    return {name[start:]: text for name, text in found.items() if name.startswith(_METADATA)}


__all__ = ["metadata_of", "parameters"]
