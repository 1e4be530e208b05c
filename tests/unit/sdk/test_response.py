"""What handlers return, and what goes out."""

from dataclasses import dataclass

import pytest

from pillion_sdk.headers import Headers
from pillion_sdk.problems import TooManyRequests
from pillion_sdk.response import Event, Response, events, problem_response, render

pytestmark = pytest.mark.anyio


@dataclass
class Order:
    id: int


async def numbers(*items, closed: list | None = None):
    try:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        if closed is not None:
            closed.append(True)


async def joined(response: Response) -> bytes:
    assert response.chunks is not None
    parts = [chunk async for chunk in response.chunks]
    return b"".join(part.encode() if isinstance(part, str) else part for part in parts)


@pytest.mark.parametrize(
    ("value", "status", "kind", "body"),
    [
        (Order(7), 200, "application/json", b'{"id":7}'),
        ({"a": [1]}, 200, "application/json", b'{"a":[1]}'),
        ([], 200, "application/json", b"[]"),
        (7, 200, "application/json", b"7"),
        (False, 200, "application/json", b"false"),
        ("é", 200, "text/plain; charset=utf-8", "é".encode()),
        ("", 200, "text/plain; charset=utf-8", b""),
        (b"\x00", 200, "application/octet-stream", b"\x00"),
        (bytearray(b"x"), 200, "application/octet-stream", b"x"),
        (None, 204, None, b""),
    ],
)
async def test_return_values(value, status, kind, body):
    """Each kind of value has its status, content type and body."""
    response = await render(value)

    assert (response.status, response.headers.get("content-type"), response.body) == (
        status,
        kind,
        body,
    )


async def test_a_response_passes_as_it_is():
    """A handler that says everything itself is not second-guessed."""
    response = Response(201, {"a": 1}, {"Location": "/a", "Content-Type": "application/x+json"})

    assert await render(response) is response
    assert response.json() == {"a": 1}
    assert response.raw_headers() == [
        (b"location", b"/a"),
        (b"content-type", b"application/x+json"),
        (b"content-length", b"7"),
    ]


async def test_a_reply_can_be_passed_on():
    """Fields that belong to the connection a reply came on do not go out with it again."""
    reply = Response(200, b"abc", Headers([(b"transfer-encoding", b"chunked"), (b"x", b"y")]))

    assert reply.raw_headers() == [
        (b"x", b"y"),
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"3"),
    ]


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_no_length(status):
    """204 and 304 have no content-length (RFC 9110 section 8.6)."""
    assert Response(status).raw_headers() == []


@pytest.mark.parametrize(
    ("items", "kind"),
    [((b"a", b"b"), "application/octet-stream"), (("a", "b"), "text/plain; charset=utf-8")],
)
async def test_an_async_iterator_streams(items, kind):
    """Its first item tells the content type, and no item gets lost."""
    response = await render(numbers(*items))

    assert response.headers["content-type"] == kind
    assert response.raw_headers() == [(b"content-type", kind.encode())]
    assert await joined(response) == b"ab"


async def test_an_empty_async_iterator_is_an_empty_body():
    """No item at all is an empty 200."""
    response = await render(numbers())
    assert (response.status, response.body, response.chunks) == (200, b"", None)


async def test_an_error_before_the_first_item_is_raised_at_once():
    """A bare iterator fails while there is still a status to choose."""
    with pytest.raises(KeyError):
        await render(numbers(KeyError("x")))


async def test_a_stream_given_up_is_closed():
    """Closing the response's iterator runs the user's finally."""
    closed: list = []
    response = await render(numbers("a", "b", closed=closed))
    assert response.chunks is not None
    await anext(response.chunks)
    await response.chunks.aclose()  # type: ignore[attr-defined] # it is a generator

    assert closed == [True]


async def test_events():
    """Events, text and values are framed as server-sent events, with headers at once."""
    closed: list = []
    source = numbers(
        "a\nb\r\nc", {"n": 1}, Event("x", event="tick", id="7", retry=10), closed=closed
    )
    response = events(source, headers={"x": "y"})

    assert response.raw_headers() == [
        (b"x", b"y"),
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache"),
    ]
    assert await joined(response) == (
        b'data: a\ndata: b\ndata: c\n\ndata: {"n":1}\n\nevent: tick\nid: 7\nretry: 10\ndata: x\n\n'
    )
    assert closed == [True]


@pytest.mark.parametrize("event", [Event("x", event="a\nb"), Event("x", id="a\rb")])
def test_an_event_cannot_smuggle_fields(event):
    """A line break in the type or the id of an event is refused."""
    with pytest.raises(ValueError, match="one line"):
        event.encode()


def test_problems_become_responses():
    """The caller gets the code, the message and the headers of a problem."""
    response = problem_response(TooManyRequests("slow down", retry_after=2))

    assert response.status == 429
    assert response.headers["retry-after"] == "2"
    assert response.json() == {"errorCode": "ERR_TOO_MANY_REQUESTS", "message": "slow down"}


def test_reading_a_response():
    """A body is text or typed JSON; what is not of the type is a ValueError."""
    response = Response(200, {"id": 7})

    assert response.json(Order) == Order(7)
    assert response.text == '{"id":7}'
    assert Response(200, b"\xff").text == "�"
    with pytest.raises(ValueError, match="missing required field"):
        Response(200, {}).json(Order)
    assert repr(response) == "<Response 200, 8 bytes>"
    assert repr(Response(200, numbers())) == "<Response 200, streamed>"
