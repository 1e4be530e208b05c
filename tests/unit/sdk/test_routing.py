"""Path templates and the route table."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion_sdk.problems import MethodNotAllowed, NotFound, RegistrationError
from pillion_sdk.routing import RouteTable, Template


def table(*routes: tuple[str, str]) -> RouteTable[str]:
    """A table whose targets are 'METHOD path'."""
    made: RouteTable[str] = RouteTable()
    for method, path in routes:
        made.add(Template.parse(path), [method], f"{method} {path}")
    return made


def test_a_named_segment_is_captured_and_decoded():
    """A name takes one segment, percent escapes decoded, and an escaped slash does not split."""
    routes = table(("GET", "orders/{id}/lines/{line}"))

    assert routes.find("GET", b"/orders/a%2Fb/lines/%C3%A9") == (
        "GET orders/{id}/lines/{line}",
        {"id": "a/b", "line": "é"},
    )


@pytest.mark.parametrize("path", [b"/orders", b"/orders/", b"orders", b"orders/"])
def test_slashes_at_the_ends_do_not_count(path):
    """The same route answers with and without slashes at both ends."""
    assert table(("GET", "/orders")).find("GET", path)[0] == "GET /orders"


def test_the_root_is_a_path():
    """An empty template is the path '/'."""
    assert table(("GET", "/")).find("GET", b"/") == ("GET /", {})


def test_a_literal_wins_over_a_name_and_a_name_over_a_rest():
    """Of several routes that fit, the most literal one answers, in any order of registration."""
    routes = table(("GET", "{all:path}"), ("GET", "orders/{id}"), ("GET", "orders/new"))

    assert routes.find("GET", b"/orders/new")[0] == "GET orders/new"
    assert routes.find("GET", b"/orders/7")[0] == "GET orders/{id}"
    assert routes.find("GET", b"/orders/7/lines") == (
        "GET {all:path}",
        {"all": "orders/7/lines"},
    )


def test_a_dead_end_is_left_again():
    """A literal that fits at first but leads nowhere does not hide a named route."""
    routes = table(("GET", "a/b/c"), ("GET", "{x}/b/d"))

    assert routes.find("GET", b"/a/b/d") == ("GET {x}/b/d", {"x": "a"})


def test_another_route_may_take_the_method():
    """A literal route without the method leaves the request to a named one that has it."""
    routes = table(("GET", "orders/new"), ("DELETE", "orders/{id}"))

    assert routes.find("DELETE", b"/orders/new")[1] == {"id": "new"}


def test_the_same_path_may_name_its_segments_differently_by_method():
    """Each route gets its own names for the segments it shares."""
    routes = table(("GET", "orders/{id}"), ("PUT", "orders/{name}"))

    assert routes.find("GET", b"/orders/7")[1] == {"id": "7"}
    assert routes.find("PUT", b"/orders/7")[1] == {"name": "7"}


def test_head_is_answered_by_get_unless_it_has_its_own():
    """HEAD falls back on GET."""
    routes = table(("GET", "a"), ("GET", "b"), ("HEAD", "b"))

    assert routes.find("HEAD", b"/a")[0] == "GET a"
    assert routes.find("HEAD", b"/b")[0] == "HEAD b"


def test_a_wrong_method_says_which_are_right():
    """A path without the method is 405, and Allow has the methods of every route that fits."""
    routes = table(("GET", "orders/new"), ("PUT", "orders/{id}"))

    with pytest.raises(MethodNotAllowed) as caught:
        routes.find("POST", b"/orders/new")
    assert caught.value.headers == {"allow": "GET, HEAD, PUT"}


@pytest.mark.parametrize("path", [b"/nothing", b"/orders/7/x", b"/orders//", b"//orders/x/y"])
def test_an_unknown_path_is_not_found(path):
    """No route, or an empty segment where a name stands, is 404."""
    with pytest.raises(NotFound):
        table(("GET", "orders/{id}")).find("GET", path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("orders/{}", "'{}'"),
        ("orders/{id", "'{id'"),
        ("orders/{1}", "'{1}'"),
        ("orders//x", "''"),
        ("orders?x=1", "'orders?x=1'"),
        ("a/{x}/b/{x}", "'x' twice"),
        ("{rest:path}/a", "last segment"),
    ],
)
def test_a_malformed_template_is_refused(path, said):
    """Registration says what is wrong with the path."""
    with pytest.raises(RegistrationError, match=said.replace("{", r"\{").replace("?", r"\?")):
        Template.parse(path)


@pytest.mark.parametrize("methods", ["GET", [], ["GE T"], [""]])
def test_methods_are_a_list_of_names(methods):
    """A bare string, no method or a malformed one is refused."""
    with pytest.raises(RegistrationError):
        RouteTable[str]().add(Template.parse("a"), methods, "x")


def test_one_path_and_method_has_one_handler():
    """A second route of the same shape is refused even if its names differ."""
    routes = table(("GET", "orders/{id}"))

    with pytest.raises(RegistrationError, match=r"GET 'orders/\{name\}' has a handler already"):
        routes.add(Template.parse("orders/{name}"), ["get"], "x")


def test_a_default_gives_way_once():
    """A default route is replaced by one of the same path and method, which then stays."""
    routes: RouteTable[str] = RouteTable()
    routes.add(Template.parse("healthz"), ["GET"], "ours", default=True)
    routes.add(Template.parse("healthz"), ["GET"], "theirs")

    assert routes.find("GET", b"/healthz")[0] == "theirs"
    with pytest.raises(RegistrationError):
        routes.add(Template.parse("healthz"), ["GET"], "another")


segment = st.text(min_size=1, max_size=8).filter(lambda text: "{" not in text and "}" not in text)
literal = st.text("abc", min_size=1, max_size=2)


@given(st.lists(st.one_of(literal, st.just(None)), min_size=1, max_size=5), st.data())
def test_what_is_put_into_a_template_comes_out(shape, data):
    """Any values, escaped into a path, come back from the table and from the template alone."""
    names = [f"n{position}" for position, part in enumerate(shape) if part is None]
    values = {name: data.draw(segment) for name in names}
    text = "/".join(
        f"{{n{position}}}" if part is None else part for position, part in enumerate(shape)
    )
    path = "/".join(
        quote(values[f"n{position}"], safe="") if part is None else part
        for position, part in enumerate(shape)
    ).encode()

    assert table(("GET", text)).find("GET", b"/" + path)[1] == values
    assert Template.parse(text).match(path) == values


@given(st.lists(literal, max_size=4), st.lists(literal, min_size=1, max_size=4))
def test_a_rest_takes_what_is_left(before, after):
    """A template that ends in a rest fits every longer path below it."""
    text = "/".join([*before, "{rest:path}"])
    path = "/".join([*before, *after])

    assert table(("GET", text)).find("GET", path.encode())[1] == {"rest": "/".join(after)}
    assert Template.parse(text).match(path.encode()) == {"rest": "/".join(after)}


@given(st.binary(max_size=40))
def test_any_path_is_found_or_not_found(path):
    """No bytes of a path do anything but match or miss."""
    routes = table(("GET", "a/{b}"), ("GET", "c"))
    try:
        routes.find("GET", path)
    except NotFound:
        assert Template.parse("c").match(path) is None
