"""A function's signature, compiled once into what fills its parameters from a request.

The rules, in their order:

1. A parameter of type :class:`Request` gets the request itself.
2. ``Annotated[..., Header()]``, ``Query()`` and ``Body()`` say it themselves.
3. A name that stands in the path template is that segment of the path.
4. ``bytes`` and structured types (dataclass, model, TypedDict, dict, a list of those) are the body.
5. Everything else, and lists of it, is in the query string.

A parameter with a default may be absent, one that may be None is None when absent, and a list is
empty when absent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pillion_sdk.markers import Body, Header, Query
from pillion_sdk.problems import BadRequest, RegistrationError
from pillion_sdk.request import Request
from pillion_sdk.values import (
    BadValue,
    Shape,
    UnreadableType,
    body_reader,
    shape_of,
    text_reader,
    texts_reader,
    without_none,
)

Reader = Callable[[Request, bytes], Any]
"""Gives one parameter its value from a request and its body; raises BadRequest."""

_MISSING: Any = inspect.Parameter.empty


class Binder:
    """Fills the parameters of one function.

    Args:
        function: the handler.
        path_names: the names in its path template.
        local_names: what its annotations may refer to besides its module.

    Attributes:
        wants_body: True when a parameter is the body, so that it has to be read first.
        wants_request: True when a parameter is the request, which may read the body itself.

    Raises:
        RegistrationError: a parameter cannot be bound.
    """

    __slots__ = ("_keywords", "_positional", "wants_body", "wants_request")

    def __init__(
        self,
        function: Callable[..., Any],
        path_names: Sequence[str],
        local_names: Mapping[str, Any],
    ) -> None:
        self.wants_body = False
        self.wants_request = False
        self._positional: list[Reader] = []
        self._keywords: dict[str, Reader] = {}
        names = _names(function, local_names)
        parameters = inspect.signature(function).parameters
        for missing in (name for name in path_names if name not in parameters):
            raise RegistrationError(
                f"{_name(function)}: the path names {missing!r}, which is no parameter"
            )
        for parameter in parameters.values():
            reader = self._reader(_Slot(function, parameter, names), path_names)
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                self._keywords[parameter.name] = reader
            else:
                self._positional.append(reader)

    def _reader(self, slot: _Slot, path_names: Sequence[str]) -> Reader:
        if isinstance(slot.type, type) and issubclass(slot.type, Request):
            self.wants_request = True
            return _request
        source = slot.source(path_names)
        if source != "body":
            return _READERS[source](slot)
        if self.wants_body:
            raise slot.error(
                "is a second body parameter; only one can be the body, mark the others with "
                "Query() or Header(), or put both in one dataclass"
            )
        self.wants_body = True
        return _body_reader(slot)

    def bind(self, request: Request, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments for one request.

        Raises:
            BadRequest: one is missing or of the wrong type; the message names it.
        """
        positional = [reader(request, body) for reader in self._positional]
        if not self._keywords:
            return positional, {}
        return positional, {name: reader(request, body) for name, reader in self._keywords.items()}


class _Slot:
    """One parameter, taken apart."""

    __slots__ = ("default", "function", "mark", "name", "optional", "shape", "type")

    def __init__(
        self,
        function: Callable[..., Any],
        parameter: inspect.Parameter,
        names: tuple[dict[str, Any], dict[str, Any]],
    ) -> None:
        self.function = _name(function)
        self.name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self.error("takes any number of arguments; name each one")
        if parameter.annotation is _MISSING:
            raise self.error(f"has no type; write '{self.name}: int' or the like")
        marked, self.mark = _mark(self._resolve(parameter.annotation, names))
        self.type, self.optional = without_none(marked)
        self.default = parameter.default
        if self.default is _MISSING and self.optional:
            self.default = None
        self.shape = Shape.UNDECIDED

    def _resolve(self, hint: Any, names: tuple[dict[str, Any], dict[str, Any]]) -> Any:
        # One at a time, so that an error names the parameter and a return type need not resolve.
        holder = SimpleNamespace(__annotations__={self.name: hint})
        try:
            return get_type_hints(holder, *names, include_extras=True)[self.name]
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise self.error(f"has a type that cannot be resolved: {error}") from error

    def source(self, path_names: Sequence[str]) -> str:
        """Decide where the value comes from: ``path``, ``query``, ``header`` or ``body``."""
        try:
            self.shape = shape_of(self.type)
        except UnreadableType as error:
            raise self.error(f"cannot be filled from a request: {error}") from None
        if isinstance(self.mark, Body):
            return "body"
        structured = self.shape is Shape.BODY
        if self.name in path_names:
            if self.mark is not None or self.shape is not Shape.ONE:
                raise self.error("is in the path, which holds one plain value")
            return "path"
        if self.mark is not None:
            if self.shape not in (Shape.ONE, Shape.MANY):
                raise self.error(
                    f"is marked {type(self.mark).__name__}(), which holds plain values only"
                )
            return "header" if isinstance(self.mark, Header) else "query"
        if self.shape is Shape.UNDECIDED:
            raise self.error("could be anything; mark it Annotated[..., Body()] or give a type")
        return "body" if structured else "query"

    def error(self, why: str) -> RegistrationError:
        """Return an error that names the function and the parameter."""
        return RegistrationError(f"{self.function}: parameter {self.name!r} {why}")


def _names(
    function: Callable[..., Any], local_names: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the global and the local names that annotations may use."""
    return getattr(inspect.unwrap(function), "__globals__", {}), dict(local_names)


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', repr(function))}()"


def _mark(hint: Any) -> tuple[Any, Header | Query | Body | None]:
    """Split a mark of ours from a type; other marks stay, msgspec reads constraints there."""
    if get_origin(hint) is not Annotated:
        return hint, None
    inner, *extras = get_args(hint)
    mark: Header | Query | Body | None = None
    rest = []
    for extra in extras:
        if extra in (Header, Query, Body):
            mark = extra()
        elif isinstance(extra, Header | Query | Body):
            mark = extra
        else:
            rest.append(extra)
    return (Annotated[(inner, *rest)] if rest else inner), mark


def _request(request: Request, _body: bytes) -> Request:
    return request


def _path_reader(slot: _Slot) -> Reader:
    convert, name = text_reader(slot.type), slot.name

    def read(request: Request, _body: bytes) -> Any:
        try:
            return convert(request.path_params[name])
        except BadValue as error:
            raise BadRequest(f"path parameter {name!r}: {error}") from None

    return read


def _query_reader(slot: _Slot) -> Reader:
    named = slot.mark.name if isinstance(slot.mark, Query) and slot.mark.name else slot.name
    what = f"query parameter {named!r}"
    return _texts(slot, what, lambda request: request.query.get(named), echo=True)


def _header_reader(slot: _Slot) -> Reader:
    named = slot.mark.name if isinstance(slot.mark, Header) and slot.mark.name else None
    named = (named or slot.name.replace("_", "-")).lower()
    what = f"header {named!r}"
    return _texts(slot, what, lambda request: request.headers.get_all(named), echo=False)


def _texts(
    slot: _Slot, what: str, find: Callable[[Request], list[str] | None], *, echo: bool
) -> Reader:
    """Return a reader of one or several texts that may be absent."""
    default = slot.default
    many = slot.shape is Shape.MANY
    convert: Callable[[Any], Any] = (
        texts_reader(slot.type) if many else text_reader(slot.type, echo=echo)
    )
    absent = convert if many and default is _MISSING else None

    def read(request: Request, _body: bytes) -> Any:
        texts = find(request)
        try:
            if texts:
                return convert(texts if many else texts[-1])
            if absent is not None:
                return absent([])
        except BadValue as error:
            raise BadRequest(f"{what}: {error}") from None
        if default is _MISSING:
            raise BadRequest(f"{what} is missing")
        return default

    return read


def _body_reader(slot: _Slot) -> Reader:
    convert, default, name = body_reader(slot.type), slot.default, slot.name
    optional = slot.optional
    raw = slot.type in (bytes, str)
    may_be_empty = raw and default is _MISSING

    def read(_request: Request, body: bytes) -> Any:
        if not body and not may_be_empty:
            if default is _MISSING:
                raise BadRequest(f"body parameter {name!r}: the body is empty")
            return default
        if optional and not raw and body.strip() == b"null":
            return None
        try:
            return convert(body)
        except BadValue as error:
            raise BadRequest(f"body parameter {name!r}: {error}") from None

    return read


_READERS: Mapping[str, Callable[[_Slot], Reader]] = {
    "path": _path_reader,
    "query": _query_reader,
    "header": _header_reader,
}
