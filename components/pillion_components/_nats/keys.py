"""Keys of state as subjects of NATS and back. Pure.

A subject is made of tokens between dots, and few signs are safe in it. The text before the first
``||``, where the runtime puts the app, becomes the first token and the rest the second, so that an
app's keys have a subject pattern of their own. Other signs are written as ``=`` and two digits.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[^A-Za-z0-9_/-]")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_EMPTY = "="
LONGEST = 2048
"""Characters of a subject; a server ends connections over lines of more than 4096 by default."""


def subject_of(key: str) -> str:
    """Return the subject of a key, without the bucket; no two keys have the same."""
    head, separator, rest = key.partition("||")
    if head and separator:
        return f"{_escape(head)}.{_escape(rest)}"
    return _escape(key)


def key_of(subject: str) -> str | None:
    """Return the key of a subject, None when :func:`subject_of` has not made it."""
    try:
        tokens = [_unescape(token) for token in subject.split(".")]
    except UnicodeDecodeError:
        return None
    key = "||".join(tokens)
    return key if subject_of(key) == subject else None


def pattern_of(prefix: str) -> str:
    """Return a pattern that fits every key that begins with ``prefix``, and others perhaps."""
    head, separator, _ = prefix.partition("||")
    return f"{_escape(head)}.*" if head and separator else ">"


def _escape(text: str) -> str:
    if not text:
        return _EMPTY
    return _PLAIN.sub(lambda sign: "".join(f"={byte:02X}" for byte in sign[0].encode()), text)


def _unescape(token: str) -> str:
    if token == _EMPTY:
        return ""
    return _ESCAPED.sub(lambda code: bytes((int(code[1], 16),)), token.encode()).decode()


__all__ = ["LONGEST", "key_of", "pattern_of", "subject_of"]
