"""Where an SQLite component keeps its file: Dapr's ``connectionString`` and our default."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit


def connection_string(text: str) -> str:
    """Return the path in a connection string: a path, or a ``file:`` URI (RFC 8089); may be empty.

    Raises:
        ValueError: it names a database in memory, another host, or parameters.
    """
    if ":memory:" in text or "mode=memory" in text:
        raise ValueError("a file; a store in memory has the type state.in-memory or lock.in-memory")
    if not text.startswith("file:"):
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ValueError("a file on this machine, such as file:data.db")
    if parts.query or parts.fragment:
        raise ValueError("a path without parameters; they have settings, such as busyTimeout")
    return unquote(parts.path)


def location(path: str, home: Path, name: str) -> Path:
    """Return the file: ``path`` from the working directory, or ``name`` in ``home`` without one."""
    return Path(path).absolute() if path else home / name


__all__ = ["connection_string", "location"]
