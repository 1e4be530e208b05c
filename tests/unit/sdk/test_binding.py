"""Signatures compiled into what fills them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel

from pillion_sdk.binding import Binder
from pillion_sdk.headers import Headers
from pillion_sdk.inbound import Inbound
from pillion_sdk.markers import Body, Header, Query
from pillion_sdk.problems import BadRequest, RegistrationError
from pillion_sdk.request import Request


@dataclass
class Order:
    id: int


class Filter(TypedDict):
    name: str


class Item(BaseModel):
    sku: str


async def _nothing_comes():
    raise AssertionError("nobody may read the body here")


def request(query: str = "", headers: dict[str, str] | None = None, **path: str) -> Request:
    """A request with a query, headers and path parameters."""
    scope = {"method": "POST", "path": "/", "query_string": query.encode()}
    fields = Headers.of(headers)
    return Request(scope, fields, path, Inbound(_nothing_comes, fields, "1.1", 0))


def bound(function, given: Request | None = None, body: bytes = b"", path=(), names=None):
    """What a function is called with, by parameter; positional ones under their position."""
    binder = Binder(function, path, names or {})
    positional, keywords = binder.bind(given or request(), body)
    return positional if not keywords else (positional, keywords)


def test_a_name_in_the_path_is_a_path_parameter():
    """A segment of the path becomes the type of the parameter that has its name."""

    def f(n: int, other: str) -> None: ...

    assert bound(f, request("other=x", n="7"), path=["n"]) == [7, "x"]


def test_plain_types_come_from_the_query():
    """Plain values, and lists of them, are read from the query string."""

    def f(a: int, b: str, tag: list[str], flag: bool) -> None: ...

    assert bound(f, request("a=1&b=x+y%26z&tag=p&tag=q&flag=true")) == [
        1,
        "x y&z",
        ["p", "q"],
        True,
    ]


def test_the_last_of_a_repeated_value_counts():
    """A plain parameter takes the last value of a name given twice."""

    def f(a: int) -> None: ...

    assert bound(f, request("a=1&a=2")) == [2]


def test_absent_parameters():
    """A default stands in, None does for what may be None, and a list is empty."""

    def f(a: int = 5, b: int | None = None, c: str | None = "x", *, d: int | None, e: list[int]):
        pass

    assert bound(f) == ([5, None, "x"], {"d": None, "e": []})


def test_structured_types_are_the_body():
    """Dataclasses, models, TypedDicts, dicts and lists of them are read from the body."""
    cases: list[tuple[Any, bytes, Any]] = [
        (Order, b'{"id":1}', Order(1)),
        (Order | None, b'{"id":1}', Order(1)),
        (Item, b'{"sku":"a"}', Item(sku="a")),
        (Filter, b'{"name":"a"}', {"name": "a"}),
        (dict, b'{"a":1}', {"a": 1}),
        (list[Order], b'[{"id":1}]', [Order(1)]),
        (bytes, b"\x00", b"\x00"),
    ]
    for kind, body, value in cases:

        def f(x):
            pass

        f.__annotations__["x"] = kind
        assert bound(f, body=body) == [value]


def test_marks_say_where_a_parameter_comes_from():
    """Header, Query and Body win over the type, with and without a name or parentheses."""

    def f(
        x_tenant: Annotated[str, Header()],
        tenants: Annotated[list[str], Header("X-Tenant")],
        n: Annotated[int, Query("number")],
        text: Annotated[str, Body],
        size: Annotated[int, Header("content-length")] = 0,
    ) -> None: ...

    assert bound(f, request("number=3", {"x-tenant": "a"}), b"hello") == ["a", ["a"], 3, "hello", 0]


def test_a_marked_body_may_be_anything():
    """Body() reads JSON into types that alone would be no body."""

    def f(x: Annotated[Any, Body()]) -> None: ...
    def g(x: Annotated[list[int], Body()]) -> None: ...

    assert bound(f, body=b"[1,null]") == [[1, None]]
    assert bound(g, body=b"[1,2]") == [[1, 2]]


def test_constraints_in_annotated_hold():
    """msgspec's constraints beside a mark of ours are checked."""

    def f(n: Annotated[int, Query(), msgspec.Meta(ge=1)]) -> None: ...

    assert bound(f, request("n=1")) == [1]
    with pytest.raises(BadRequest, match="query parameter 'n': expected `int` >= 1"):
        bound(f, request("n=0"))


def test_the_request_itself():
    """A parameter of type Request gets it, and the binder knows that the body may be read."""

    def f(request: Request, a: int = 1) -> None: ...

    given = request()
    assert bound(f, given) == [given, 1]
    assert Binder(f, [], {}).wants_request


def test_an_empty_body():
    """An empty body is an error, unless the parameter has a default or takes raw bytes."""

    def f(x: Order) -> None: ...
    def g(x: Order | None) -> None: ...
    def h(x: bytes) -> None: ...
    def i(x: bytes | None) -> None: ...

    with pytest.raises(BadRequest, match="body parameter 'x': the body is empty"):
        bound(f)
    assert bound(g) == [None]
    assert bound(g, body=b" null ") == [None]
    assert bound(h) == [b""]
    assert bound(i) == [None]


@pytest.mark.parametrize(
    ("query", "headers", "body", "said"),
    [
        ("", {"h": "1"}, b"{}", "query parameter 'q' is missing"),
        ("q=x", {"h": "1"}, b"{}", "query parameter 'q': expected `int`, got 'x'"),
        ("q=1", {}, b"{}", "header 'h' is missing"),
        ("q=1", {"h": "secret"}, b"{}", "header 'h': expected `int`, got something else"),
        ("q=1", {"h": "1"}, b"{}", "body parameter 'o': object missing required field `id`"),
        ("q=1", {"h": "1"}, b"{", "body parameter 'o': input data was truncated"),
        ("q=1&t=x", {"h": "1"}, b'{"id":1}', "query parameter 't': expected `int`, got `str`"),
    ],
)
def test_bad_input_names_the_parameter(query, headers, body, said):
    """The 400 says which parameter is wrong and how."""

    def f(q: int, h: Annotated[int, Header()], o: Order, t: list[int]) -> None: ...

    with pytest.raises(BadRequest) as caught:
        bound(f, request(query, headers), body)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)


def test_bad_path_parameters_are_named():
    """A segment of the wrong type is a 400 as well."""

    def f(n: int) -> None: ...

    with pytest.raises(BadRequest, match="path parameter 'n': expected `int`, got 'x'"):
        bound(f, request(n="x"), path=["n"])


def test_names_of_the_caller_resolve():
    """An annotation may name what only the caller of the decorator knows."""

    @dataclass
    class Local:
        a: int

    def f(x: Local) -> None: ...

    assert bound(f, body=b'{"a":1}', names={"Local": Local}) == [Local(1)]
    with pytest.raises(RegistrationError, match=r"f\(\): parameter 'x' has a type that cannot be"):
        Binder(f, [], {})


def test_a_return_type_need_not_resolve():
    """Only parameters have to be known at run time."""

    def f(a: int) -> NotImported: ...  # noqa: F821 - the point of the test

    assert bound(f, request("a=1")) == [1]


def test_wrapped_functions_show_through():
    """A decorator made with functools.wraps does not hide the signature."""

    def f(a: int) -> None: ...

    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    assert bound(wrapper, request("a=1")) == [1]


class Plain:
    pass


def no_type(a): ...
def star(*args: int): ...
def double_star(**options: int): ...
def plain_class(a: Plain): ...
def anything(a: Any): ...
def two_bodies(a: Order, b: Order): ...
def order_in_path(n: Order): ...
def list_in_path(n: list[int]): ...
def marked_in_path(n: Annotated[int, Query()]): ...
def order_in_header(a: Annotated[Order, Header()]): ...
def anything_in_query(a: Annotated[Any, Query()]): ...
def unknown(a: Unknown): ...  # noqa: F821 - the point of the test
def not_in_signature(other: int): ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_type, "no_type(): parameter 'a' has no type"),
        (star, "star(): parameter 'args' takes any number"),
        (double_star, "double_star(): parameter 'options' takes any number"),
        (plain_class, "plain_class(): parameter 'a' cannot be filled from a request: Plain"),
        (anything, "anything(): parameter 'a' could be anything; mark it"),
        (two_bodies, "two_bodies(): parameter 'b' is a second body parameter"),
        (order_in_path, "order_in_path(): parameter 'n' is in the path"),
        (list_in_path, "list_in_path(): parameter 'n' is in the path"),
        (marked_in_path, "marked_in_path(): parameter 'n' is in the path"),
        (order_in_header, "order_in_header(): parameter 'a' is marked Header()"),
        (anything_in_query, "anything_in_query(): parameter 'a' is marked Query()"),
        (unknown, "unknown(): parameter 'a' has a type that cannot be resolved"),
        (not_in_signature, "not_in_signature(): the path names 'n', which is no parameter"),
    ],
)
def test_what_cannot_be_bound_is_refused(function, said):
    """Registration fails with a message that names the function and the parameter."""
    path = ["n"] if "path" in function.__name__ or "signature" in function.__name__ else []
    with pytest.raises(RegistrationError) as caught:
        Binder(function, path, {})
    assert str(caught.value).startswith(said)
