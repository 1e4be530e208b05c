"""Text and JSON to typed values and back."""

import enum
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from pillion_sdk.values import (
    BadValue,
    Shape,
    UnreadableType,
    body_reader,
    encode_json,
    json_reader,
    shape_of,
    text_reader,
    texts_reader,
    to_text,
    without_none,
)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(TypedDict):
    x: int


class Pair(NamedTuple):
    a: int
    b: str


@dataclass
class Line:
    sku: str
    quantity: int = 1


@dataclass
class Tree:
    children: "list[Tree]"


class Model(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    when: date | None = None
    count: int = Field(default=0, alias="Count")


@dataclass
class Holder:
    model: Model


class Plain:
    pass


OrderId = NewType("OrderId", int)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("7", int, 7),
        ("-7", int, -7),
        ("1.5", float, 1.5),
        ("true", bool, True),
        ("0", bool, False),
        ("x", str, "x"),
        ("null", str, "null"),
        ("red", Colour, Colour.RED),
        ("3", Level, Level.HIGH),
        ("b", Literal["a", "b"], "b"),
        ("7", OrderId, 7),
        ("1.10", Decimal, Decimal("1.10")),
        ("2026-01-02", date, date(2026, 1, 2)),
        ("2026-01-02T03:04:05Z", datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("03:04:05", time, time(3, 4, 5)),
        ("PT5S", timedelta, timedelta(seconds=5)),
        (
            "12345678-1234-5678-1234-567812345678",
            UUID,
            UUID("12345678-1234-5678-1234-567812345678"),
        ),
    ],
)
def test_text_becomes_a_value(text, kind, value):
    """Every plain type is read from the text people write for it."""
    assert text_reader(kind)(text) == value
    assert shape_of(kind) is Shape.ONE


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("x", int, "expected `int`, got 'x'"),
        ("", int, "expected `int`, got ''"),
        ("1 ", int, "expected `int`, got '1 '"),
        ("yes", bool, "expected `bool`, got 'yes'"),
        ("blue", Colour, "invalid enum value 'blue'"),
        ("1,5", Decimal, "invalid decimal string"),
        ("0", Annotated[int, msgspec.Meta(ge=1)], "expected `int` >= 1"),
        ("c", Literal["a", "b"], "invalid enum value 'c'"),
    ],
)
def test_text_of_another_type_is_a_bad_value(text, kind, said):
    """The message says what was expected and, where it helps, what came."""
    with pytest.raises(BadValue) as caught:
        text_reader(kind)(text)
    assert str(caught.value) == said


def test_what_may_be_a_credential_is_not_repeated():
    """Without echo the message does not hold the text."""
    with pytest.raises(BadValue) as caught:
        text_reader(int, echo=False)("secret")
    assert "secret" not in str(caught.value)


def test_several_texts_become_a_collection():
    """Lists, sets and tuples of plain types are read from several texts."""
    assert texts_reader(list[int])(["1", "2"]) == [1, 2]
    assert texts_reader(set[Colour])(["red", "red"]) == {Colour.RED}
    assert texts_reader(tuple[int, ...])(["1"]) == (1,)
    with pytest.raises(BadValue, match=r"\$\[1\]"):
        texts_reader(list[int])(["1", "x"])


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (int | None, Shape.ONE),
        (int | str, Shape.ONE),
        (Annotated[int, msgspec.Meta(ge=1)], Shape.ONE),
        (list[int], Shape.MANY),
        (Sequence[str], Shape.MANY),
        (frozenset[UUID], Shape.MANY),
        (list[Line], Shape.BODY),
        (list[list[int]], Shape.BODY),
        (dict, Shape.BODY),
        (dict[str, int], Shape.BODY),
        (Line, Shape.BODY),
        (Line | None, Shape.BODY),
        (Line | int, Shape.BODY),
        (Tree, Shape.BODY),
        (Point, Shape.BODY),
        (Pair, Shape.BODY),
        (Model, Shape.BODY),
        (list[Model], Shape.BODY),
        (bytes, Shape.BODY),
        (Any, Shape.UNDECIDED),
        (list, Shape.UNDECIDED),
    ],
)
def test_shapes(kind, shape):
    """What a parameter's type alone says about where it comes from."""
    assert shape_of(kind) is shape


@pytest.mark.parametrize(
    "kind", [Plain, list[Plain], dict[str, Plain], Plain | None, AsyncIterator[bytes], object]
)
def test_a_class_nothing_can_make_is_unreadable(kind):
    """A type that needs a class of no known kind is refused, also inside another type."""
    with pytest.raises(UnreadableType):
        shape_of(kind)


def test_a_class_nothing_can_make_is_found_in_fields():
    """An unreadable field of a dataclass is refused before any request comes."""

    @dataclass
    class Inner:
        plain: Plain

    with pytest.raises(UnreadableType, match="Plain cannot be made from text or JSON"):
        shape_of(Inner)


def test_none_is_taken_out_of_a_type():
    """Optional types are split into the type and the fact."""
    assert without_none(int | None) == (int, True)
    assert without_none(Line | None) == (Line, True)
    assert without_none(int | str | None) == (int | str, True)
    assert without_none(int | str) == (int | str, False)
    assert without_none(int) == (int, False)
    assert without_none(Annotated[int | None, "m"]) == (Annotated[int, "m"], True)


def test_bodies_of_bytes_and_text_are_not_json():
    """Bytes pass as they are, text has to be UTF-8."""
    assert body_reader(bytes)(b"\xff") == b"\xff"
    assert body_reader(str)("é".encode()) == "é"
    with pytest.raises(BadValue, match="UTF-8 at byte 1"):
        body_reader(str)(b"a\xff")


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        (Line, b'{"sku":"a"}', Line("a", 1)),
        (list[Line], b'[{"sku":"a","quantity":2}]', [Line("a", 2)]),
        (Tree, b'{"children":[{"children":[]}]}', Tree([Tree([])])),
        (Point, b'{"x":1}', {"x": 1}),
        (Pair, b'[1,"b"]', Pair(1, "b")),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (int, b"7", 7),
        (Any, b'{"a":[1]}', {"a": [1]}),
    ],
)
def test_json_becomes_a_value(kind, body, value):
    """Structured types of the standard library are read and checked."""
    assert json_reader(kind)(body) == value


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (Line, b"{}", "missing required field `sku`"),
        (Line, b'{"sku":1}', r"expected `str`, got `int` - at `\$\.sku`"),
        (list[Line], b'[{"sku":"a","quantity":"2"}]', r"at `\$\[0\]\.quantity`"),
        (Line, b"{", "truncated"),
        (Line, b"", "truncated"),
        (Line, b"nonsense", "invalid"),
        (Any, b"[" * 100_000, "nested too deeply"),
        (Any, b'"\xff"', "utf-8"),
    ],
)
def test_json_of_another_type_is_a_bad_value(kind, body, said):
    """The message says where in the body the trouble is."""
    with pytest.raises(BadValue, match=said):
        json_reader(kind)(body)


def test_models_check_themselves():
    """A pydantic model reads JSON by its own rules, alone and inside other types."""
    body = b'{"name":"a","when":"2026-01-02","Count":3}'
    model = Model(name="a", when=date(2026, 1, 2), Count=3)

    assert json_reader(Model)(body) == model
    assert json_reader(list[Model])(b"[" + body + b"]") == [model]
    assert json_reader(Model | None)(body) == model
    assert json_reader(Holder)(b'{"model":' + body + b"}") == Holder(model)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Model, b'{"name":1,"when":"soon"}'),
        (list[Model], b'[{"name":1,"when":"soon"}]'),
    ],
)
def test_models_name_every_wrong_field(kind, body):
    """All faults of a model are in one line of text, without the input."""
    with pytest.raises(BadValue) as caught:
        json_reader(kind)(body)
    assert "name: input should be a valid string; when: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_become_json():
    """Everything a handler is likely to return has a JSON form."""
    value = {
        "line": Line("a"),
        "model": Model(name="m", Count=2),
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "price": Decimal("1.10"),
        "colour": Colour.RED,
        "set": {1},
    }

    assert json_reader(Any)(encode_json(value)) == {
        "line": {"sku": "a", "quantity": 1},
        "model": {"name": "m", "when": None, "Count": 2},
        "when": "2026-01-02T00:00:00Z",
        "price": "1.10",
        "colour": "red",
        "set": [1],
    }
    with pytest.raises(TypeError, match="Plain"):
        encode_json([Plain()])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        (7, "7"),
        (True, "true"),
        (False, "false"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_values_become_text(value, text):
    """A value in a query string is written as it is read."""
    assert to_text(value) == text


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, Line("a")])
def test_only_single_values_become_text(value):
    """What is no single value is refused."""
    with pytest.raises(TypeError):
        to_text(value)


@given(
    st.one_of(
        st.integers(-(2**63), 2**63),
        st.booleans(),
        st.decimals(allow_nan=False),
        st.dates(),
        st.uuids(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.datetimes(timezones=st.just(UTC)),
        st.text(),
    )
)
def test_what_is_written_is_read(value):
    """Every plain value survives the way through a query string."""
    assert text_reader(type(value))(to_text(value)) == value
