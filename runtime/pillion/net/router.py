"""From a method and a path to the row of a building block, read off the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes

from pillion.operation import Endpoint, Operation, Request

Allowed = Callable[[str, str], bool]
"""Whether the API rules let ``(group, version)`` be served over HTTP."""


class _Route:
    """One row in one version, cut into segments."""

    __slots__ = ("names", "operation", "rest", "segments")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        parts = operation.path.strip("/").split("/")
        self.rest = parts[-1].endswith("...}")
        self.segments = [None if part.startswith("{") else part.encode() for part in parts]
        self.names = [part.strip("{}.") for part in parts if part.startswith("{")]

    def match(self, method: str, path: list[bytes]) -> list[bytes] | None:
        """Return the values of the path parameters, or None."""
        count = len(self.segments)
        if method not in self.operation.methods:
            return None
        if len(path) != count and not (self.rest and len(path) > count):
            return None
        values: list[bytes] = []
        for index, segment in enumerate(self.segments):
            if segment is not None:
                if segment != path[index]:
                    return None
            elif self.rest and index == count - 1:
                values.append(b"/".join(path[index:]))
            else:
                values.append(path[index])
        return values


class Router:
    """Every row of every block, by version and first segment.

    ``fallback`` answers what no row matches: that is service invocation, which tells a wrong path
    from a call by its headers.
    """

    __slots__ = ("_fallback", "_routes")

    def __init__(
        self, operations: Iterable[Operation], fallback: Endpoint, allowed: Allowed
    ) -> None:
        self._fallback = fallback
        self._routes: dict[tuple[bytes, bytes], list[_Route]] = {}
        for operation in operations:
            for version in operation.versions:
                if allowed(operation.group, version):
                    route = _Route(operation)
                    first = operation.path.strip("/").split("/")[0].encode()
                    self._routes.setdefault((version.encode(), first), []).append(route)

    def find(self, request: Request) -> tuple[Endpoint, Operation | None]:
        """Return what answers ``request``, and its row if one matches; fills ``params``."""
        if request.path.startswith(b"/v1.0/invoke/"):
            return self._fallback, None
        parts = [part for part in request.path.split(b"/") if part]
        if len(parts) < 2:
            return self._fallback, None
        routes = self._routes.get((parts[0], parts[1]))
        if routes is None:
            return self._fallback, None
        method = request.method.decode()
        path = parts[1:]
        for route in routes:
            values = route.match(method, path)
            if values is not None:
                names = route.names
                request.params = {
                    name: _unescape(value) for name, value in zip(names, values, strict=True)
                }
                return route.operation.endpoint, route.operation
        return self._fallback, None


def _unescape(value: bytes) -> str:
    return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "replace")
