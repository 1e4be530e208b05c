"""Header fields: names compare without case, repeated ones keep their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar, overload

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case and values, as bytes."""

HeaderSource: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""What a user may give for headers."""

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Fields that end at their connection (RFC 9110 section 7.6.1)."""

T = TypeVar("T")


class Headers(Mapping[str, str]):
    """Read-only header fields.

    ``headers["x"]`` is the first value of a field, :meth:`get_all` has them all.

    Args:
        raw: names in lower case and values, as bytes; kept, not copied.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: RawHeaders) -> None:
        self.raw = raw

    @classmethod
    def of(cls, source: HeaderSource | None) -> Headers:
        """Build headers from a mapping or from pairs of text."""
        return cls(encode(source))

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1")
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self.raw))

    def __len__(self) -> int:
        return len({key for key, _ in self.raw})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name.lower().encode("latin-1")) is not None

    @overload
    def get(self, key: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, key: str, default: str | T, /) -> str | T: ...
    def get(self, key: str, default: object = None, /) -> object:
        """Return the first value of a field, or the default."""
        value = self.find(key.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """Return every value of a field, in the order they came."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def find(self, name: bytes) -> bytes | None:
        """Return the first value of a field given by its name in lower case, or None."""
        for key, value in self.raw:
            if key == name:
                return value
        return None

    def __repr__(self) -> str:
        # Values may be credentials, so that a Headers in a log line shows names only.
        return f"Headers({', '.join(self)})"


def encode(source: HeaderSource | None) -> RawHeaders:
    """Return headers given as text as pairs of bytes with names in lower case."""
    if source is None:
        return []
    if isinstance(source, Headers):
        return list(source.raw)
    pairs = source.items() if isinstance(source, Mapping) else source
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


def number(value: bytes | None) -> int | None:
    """Return a field's value as a number of at most 18 digits; None when it is something else."""
    return int(value) if value is not None and value.isdigit() and len(value) <= 18 else None
