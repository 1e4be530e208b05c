"""Path templates such as ``orders/{id}`` and the table that finds the route of a request.

A template is made of literal segments, ``{name}`` for one segment and, at its end, ``{name:path}``
for all that are left. A literal wins over a name, a name over a rest. Slashes at both ends do not
count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote

from pillion_sdk.problems import MethodNotAllowed, NotFound, RegistrationError

T = TypeVar("T")

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
_METHOD = re.compile(r"[A-Z]+")


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template.

    Attributes:
        text: the template without slashes at its ends.
        segments: literals, and None for a named one.
        names: of the parameters, in their order.
        rest: True when the last name takes all segments that are left.
    """

    text: str
    segments: tuple[str | None, ...]
    names: tuple[str, ...]
    rest: bool

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse a template.

        Raises:
            RegistrationError: it is malformed, or names a parameter twice.
        """
        segments: list[str | None] = []
        names: list[str] = []
        rest = False
        parts = text.strip("/").split("/") if text.strip("/") else []
        for position, part in enumerate(parts):
            named = _NAME.fullmatch(part)
            if named is None:
                if not part or "{" in part or "}" in part or "?" in part or "#" in part:
                    raise RegistrationError(
                        f"path {text!r}: {part!r} is neither a literal segment nor {{name}}"
                    )
                segments.append(part)
                continue
            if named[1] in names:
                raise RegistrationError(f"path {text!r} names {named[1]!r} twice")
            names.append(named[1])
            segments.append(None)
            if named[2]:
                rest = True
                if position != len(parts) - 1:
                    raise RegistrationError(f"path {text!r}: {part} has to be the last segment")
        return cls("/".join(parts), tuple(segments), tuple(names), rest)

    def match(self, path: bytes) -> dict[str, str] | None:
        """Return the parameters in a path, decoded, or None when it is of another shape."""
        given = split(path)
        if self.rest:
            if len(given) < len(self.segments):
                return None
            last = len(self.segments) - 1
            given[last:] = ["/".join(given[last:])]
        if len(given) != len(self.segments):
            return None
        pairs = list(zip(self.segments, given, strict=True))
        if any(literal != segment for literal, segment in pairs if literal is not None):
            return None
        values = [segment for literal, segment in pairs if literal is None]
        return dict(zip(self.names, values, strict=True)) if all(values) else None


def split(path: bytes) -> list[str]:
    """Return the decoded segments of a path; slashes at both ends do not count."""
    trimmed = path.strip(b"/")
    return [unquote(part) for part in trimmed.split(b"/")] if trimmed else []


class _Node(Generic[T]):
    """A place in the tree of segments; ``methods`` and ``rest`` hold what ends here."""

    __slots__ = ("literals", "methods", "named", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.named: _Node[T] | None = None
        self.methods: dict[str, tuple[tuple[str, ...], T]] = {}
        self.rest: dict[str, tuple[tuple[str, ...], T]] = {}


class RouteTable(Generic[T]):
    """Routes by path and method.

    Finding one costs the length of the path, whatever the number of routes.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._defaults: set[tuple[str, str]] = set()

    def add(
        self, template: Template, methods: Sequence[str], target: T, *, default: bool = False
    ) -> None:
        """Add a route; a default one gives way to another of its path and method.

        Raises:
            RegistrationError: there is a route of that shape and method, or a bad method.
        """
        if isinstance(methods, str) or not methods:
            raise RegistrationError(f"path {template.text!r}: methods is a list such as ['GET']")
        ending = self._ending(template)
        for method in (method.upper() for method in methods):
            if not _METHOD.fullmatch(method):
                raise RegistrationError(f"path {template.text!r}: {method!r} is no HTTP method")
            row = (template.text, method)
            if method in ending and row not in self._defaults:
                raise RegistrationError(
                    f"{method} {template.text!r} has a handler already: one path and method, "
                    "one handler"
                )
            ending[method] = (template.names, target)
            if default:
                self._defaults.add(row)
            else:
                self._defaults.discard(row)

    def _ending(self, template: Template) -> dict[str, tuple[tuple[str, ...], T]]:
        node = self._root
        for segment in template.segments[:-1] if template.rest else template.segments:
            if segment is not None:
                node = node.literals.setdefault(segment, _Node())
            else:
                if node.named is None:
                    node.named = _Node()
                node = node.named
        return node.rest if template.rest else node.methods

    def find(self, method: str, path: bytes) -> tuple[T, dict[str, str]]:
        """Return the route of a request and its path parameters, decoded.

        Args:
            method: in upper case; HEAD is answered by a GET route when it has none itself.
            path: as it came, with its percent escapes.

        Raises:
            NotFound: no route has this path.
            MethodNotAllowed: there is one, for other methods; ``allow`` is in its headers.
        """
        segments = split(path)
        allowed: set[str] = set()
        for ending, values in _walk(self._root, segments, 0, ()):
            found = ending.get(method) or (ending.get("GET") if method == "HEAD" else None)
            if found is not None:
                return found[1], dict(zip(found[0], values, strict=True))
            allowed.update(ending)
        shown = unquote(path)
        if not allowed:
            raise NotFound(f"no handler for {shown!r:.200}")
        if "GET" in allowed:
            allowed.add("HEAD")
        raise MethodNotAllowed(
            f"{shown!r:.200} does not take {method}", headers={"allow": ", ".join(sorted(allowed))}
        )


def _walk(
    node: _Node[T], segments: list[str], position: int, values: tuple[str, ...]
) -> Iterator[tuple[dict[str, tuple[tuple[str, ...], T]], tuple[str, ...]]]:
    """Yield every ending that fits, the most literal first."""
    if position == len(segments):
        if node.methods:
            yield node.methods, values
    else:
        segment = segments[position]
        literal = node.literals.get(segment)
        if literal is not None:
            yield from _walk(literal, segments, position + 1, values)
        if node.named is not None and segment:
            yield from _walk(node.named, segments, position + 1, (*values, segment))
        if node.rest:
            yield node.rest, (*values, "/".join(segments[position:]))
