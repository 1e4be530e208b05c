"""Text and JSON to typed values and back.

Types are read with msgspec. A class with ``model_validate_json`` (a pydantic model) checks itself,
alone or inside a list, a dict or a dataclass; pydantic is never imported from here.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import inspect as kinds

TextReader = Callable[[str], Any]
BodyReader = Callable[[bytes], Any]


class BadValue(ValueError):
    """A value that is not of the wanted type; the message says what was expected."""


class UnreadableType(TypeError):
    """A type that cannot be read from a request; the message says why."""


class Shape(enum.Enum):
    """Where values of a type come from, when nothing else says so."""

    ONE = "one value"
    MANY = "several values"
    BODY = "a body"
    UNDECIDED = "anything"


_ONE = (
    kinds.BoolType,
    kinds.IntType,
    kinds.FloatType,
    kinds.StrType,
    kinds.DateTimeType,
    kinds.DateType,
    kinds.TimeType,
    kinds.TimeDeltaType,
    kinds.UUIDType,
    kinds.DecimalType,
    kinds.EnumType,
    kinds.LiteralType,
)
_COLLECTED = {
    Shape.ONE: Shape.MANY,
    Shape.MANY: Shape.BODY,
    Shape.BODY: Shape.BODY,
    Shape.UNDECIDED: Shape.UNDECIDED,
}
_MANY = (kinds.ListType, kinds.SetType, kinds.FrozenSetType, kinds.VarTupleType)


def shape_of(wanted: Any) -> Shape:
    """Tell whether a type is one value, several values or a body.

    Raises:
        UnreadableType: neither text nor JSON can become this type.
    """
    try:
        info = kinds.type_info(wanted)
    except (TypeError, NameError, ValueError, AttributeError) as error:
        raise UnreadableType(str(error)) from error
    _refuse_unknown(info, set())
    return _shape(info)


def _shape(info: kinds.Type) -> Shape:
    if isinstance(info, kinds.Metadata):
        return _shape(info.type)
    if isinstance(info, kinds.UnionType):
        shapes = {_shape(item) for item in info.types if not isinstance(item, kinds.NoneType)}
        return shapes.pop() if len(shapes) == 1 else Shape.BODY
    if isinstance(info, _ONE):
        return Shape.ONE
    if isinstance(info, _MANY):
        inner = _shape(info.item_type)
        return _COLLECTED[inner]
    return Shape.UNDECIDED if isinstance(info, kinds.AnyType) else Shape.BODY


def _refuse_unknown(info: Any, seen: set[int]) -> None:
    """Raise for a class that nothing can construct, wherever it hides in a type."""
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, kinds.CustomType):
        if not hasattr(info.cls, "model_validate_json"):
            raise UnreadableType(f"{info.cls.__qualname__} cannot be made from text or JSON")
        return
    if isinstance(info, kinds.Metadata):
        _refuse_unknown(info.type, seen)
    for name in ("item_type", "key_type", "value_type"):
        inner = getattr(info, name, None)
        if inner is not None:
            _refuse_unknown(inner, seen)
    for inner in getattr(info, "types", None) or getattr(info, "item_types", None) or ():
        _refuse_unknown(inner, seen)
    for inner in getattr(info, "fields", ()):
        _refuse_unknown(inner.type, seen)


def without_none(wanted: Any) -> tuple[Any, bool]:
    """Return a type without its ``None`` and whether it had one."""
    if get_origin(wanted) is Annotated:
        inner, optional = without_none(get_args(wanted)[0])
        return (Annotated[(inner, *wanted.__metadata__)] if optional else wanted), optional
    if get_origin(wanted) not in (Union, types.UnionType):
        return wanted, False
    rest = tuple(item for item in get_args(wanted) if item is not type(None))
    if len(rest) == len(get_args(wanted)):
        return wanted, False
    return (rest[0] if len(rest) == 1 else Union[rest]), True  # noqa: UP007 - made at run time


def text_reader(wanted: Any, *, echo: bool = True) -> TextReader:
    """Return a function that reads one value from text; it raises BadValue.

    Args:
        wanted: the type.
        echo: show the text in the error; not for what may be a credential.
    """
    if wanted is str:
        return str
    convert = msgspec.convert

    def read(text: str) -> Any:
        try:
            return convert(text, wanted, strict=False)
        except msgspec.ValidationError as error:
            shown = f"got {text!r:.80}" if echo else "got something else"
            raise BadValue(_lower(str(error)).replace("got `str`", shown)) from None

    return read


def texts_reader(wanted: Any) -> Callable[[list[str]], Any]:
    """Return a function that reads a list, set or tuple from texts; it raises BadValue."""
    convert = msgspec.convert

    def read(texts: list[str]) -> Any:
        try:
            return convert(texts, wanted, strict=False)
        except msgspec.ValidationError as error:
            raise BadValue(_lower(str(error))) from None

    return read


def body_reader(wanted: Any) -> BodyReader:
    """Return a function that reads a body: ``bytes`` and ``str`` as they are, the rest from JSON.

    It raises BadValue.
    """
    if wanted is bytes:
        return bytes
    return _read_text if wanted is str else json_reader(wanted)


def _read_text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadValue(f"not UTF-8 at byte {error.start}") from None


def json_reader(wanted: Any) -> BodyReader:
    """Return a function that reads JSON as a type; it raises BadValue."""
    validate = getattr(wanted, "model_validate_json", None)
    if validate is not None:
        return functools.partial(_validate, validate)
    decode = msgspec.json.Decoder(wanted, dec_hook=_construct).decode

    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadValue(_lower(str(error))) from None
        except RecursionError:
            raise BadValue("nested too deeply") from None

    return read


cached_json_reader = functools.lru_cache(maxsize=256)(json_reader)
"""The same, remembered for replies, whose type is named on every call."""


def encode_json(value: Any) -> bytes:
    """Return a value as JSON; Decimal becomes a string, a pydantic model its own dump.

    Raises:
        TypeError: the value, or something inside it, has no JSON form.
    """
    return _encoder.encode(value)


def to_text(value: Any) -> str:
    """Return one value as it stands in a query string or a header."""
    if isinstance(value, str):
        return value
    plain = msgspec.to_builtins(value, enc_hook=_simplify)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, str | int | float):
        return str(plain)
    raise TypeError(f"{type(value).__qualname__} is no single value: give text, a number or a date")


def _simplify(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__qualname__} has no JSON form")
    return dump(mode="json", by_alias=True)


def _construct(wanted: type, value: Any) -> Any:
    # Back through JSON, because a model reads JSON by other rules than Python objects.
    reader: Any = typing.cast("Any", wanted).model_validate_json
    return _validate(reader, msgspec.json.encode(value))


def _validate(validate: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return validate(body)
    except ValueError as error:
        details = getattr(error, "errors", None)
        if details is None:
            raise BadValue(str(error)) from None
        raise BadValue("; ".join(_detail(item) for item in details())) from None


def _detail(item: dict[str, Any]) -> str:
    where = ".".join(str(step) for step in item["loc"])
    return f"{where}: {_lower(item['msg'])}" if where else _lower(item["msg"])


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


_encoder = msgspec.json.Encoder(enc_hook=_simplify, decimal_format="string")
