"""The request as a handler sees it."""

import time

import pytest

from pillion_sdk.headers import Headers
from pillion_sdk.inbound import Inbound
from pillion_sdk.problems import BadRequest
from pillion_sdk.request import Request, current_request, handling

pytestmark = pytest.mark.anyio


def request(body: bytes = b"", scope: dict | None = None, **headers: str) -> Request:
    fields = Headers.of({name.replace("_", "-"): value for name, value in headers.items()})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    inbound = Inbound(receive, fields, "2", 1000)
    return Request({"method": "GET", "path": "/", **(scope or {})}, fields, {}, inbound)


def test_path_with_and_without_its_raw_form():
    """The path keeps its escapes in raw_path, and a server without raw_path loses only slashes."""
    with_raw = request(scope={"path": "/a b/c", "raw_path": b"/a%20b%2Fc"})
    assert (with_raw.raw_path, with_raw.path) == (b"/a%20b%2Fc", "/a b/c")

    without = request(scope={"path": "/50% é"})
    assert (without.raw_path, without.path) == ("/50%25 é".encode(), "/50% é")


def test_query():
    """Every name has all its values, blank ones too, and nonsense does no harm."""
    assert request(scope={"query_string": b"a=1&a=2&b=&c=%C3%A9&&d"}).query == {
        "a": ["1", "2"],
        "b": [""],
        "c": ["é"],
        "d": [""],
    }
    assert request(scope={"query_string": b"%ff=%zz"}).query == {"�": ["%zz"]}


def test_caller():
    """The caller is whom the runtime vouches for."""
    assert request(dapr_caller_app_id="checkout").caller == "checkout"
    assert request().caller is None


def test_deadline():
    """The deadline counts from the arrival, and what is no number of milliseconds is none."""
    given = request(x_pillion_deadline_ms="1500")
    assert given.deadline == given.arrived + 1.5
    remaining = given.remaining
    assert remaining is not None
    assert 1.4 < remaining <= 1.5
    assert time.monotonic() >= given.arrived

    assert request(x_pillion_deadline_ms="0").remaining == 0.0
    for value in ("-1", "soon", "", "9" * 400):
        assert request(x_pillion_deadline_ms=value).deadline is None
        assert request(x_pillion_deadline_ms=value).remaining is None


async def test_json():
    """The body is read as JSON of a type, and what is not is a 400."""
    assert await request(b"[1]").json(list[int]) == [1]
    assert await request(b'{"a":1}').json() == {"a": 1}
    with pytest.raises(BadRequest, match="body: expected `array`"):
        await request(b"{}").json(list[int])


def test_the_current_request():
    """Inside handling() the request is the current one, also nested, and nothing outside."""
    outer, inner = request(), request()
    assert current_request() is None
    with handling(outer):
        with handling(inner):
            assert current_request() is inner
        assert current_request() is outer
    assert current_request() is None


def test_repr_shows_no_header():
    """A request in a log line shows its method and path."""
    assert repr(request(authorization="secret", scope={"path": "/x"})) == "<Request GET /x>"
