"""The items of an error's ``details``, as Google's error model writes them in JSON.

Shapes are those of ``google/rpc/error_details.proto``; the domain is the one that Dapr's clients
look for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Detail: TypeAlias = Mapping[str, object]

_TYPES = "type.googleapis.com/google.rpc."
_DOMAIN = "dapr.io"


def error_info(reason: str, metadata: Mapping[str, str] | None = None) -> Detail:
    """Return what programs tell errors apart by; ``reason`` is in upper case."""
    return {
        "@type": f"{_TYPES}ErrorInfo",
        "reason": reason,
        "domain": _DOMAIN,
        "metadata": dict(metadata) if metadata is not None else None,
    }


def resource_info(kind: str, name: str, description: str = "") -> Detail:
    """Return which resource an error is about, such as the ``state`` store ``orders``."""
    return {
        "@type": f"{_TYPES}ResourceInfo",
        "resource_type": kind,
        "resource_name": name,
        "owner": "",
        "description": description,
    }


def bad_request(field: str, description: str) -> Detail:
    """Return which field of a request is wrong."""
    return {
        "@type": f"{_TYPES}BadRequest",
        "field_violations": [{"field": field, "description": description}],
    }


def help_link(url: str, description: str) -> Detail:
    """Return where to read more."""
    return {"@type": f"{_TYPES}Help", "links": [{"description": description, "url": url}]}


__all__ = ["Detail", "bad_request", "error_info", "help_link", "resource_info"]
