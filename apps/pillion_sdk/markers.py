"""Marks for ``Annotated`` that say where a parameter comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Header:
    """The parameter is a header field.

    Args:
        name: the field's name; without it, the parameter's with ``-`` for ``_``.
    """

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The parameter is in the query string.

    Args:
        name: the name there; without it, the parameter's own.
    """

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The parameter is the body: text and bytes as they came, everything else from JSON."""
