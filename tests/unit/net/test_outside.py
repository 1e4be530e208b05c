"""Calls that leave the mesh: to named endpoints and straight to URLs."""

from __future__ import annotations

import time

import pytest
from tests.support.conditions import eventually
from tests.support.scripted_app import answering, app_running

from pillion.call import Call, Target
from pillion.errors import Invalid
from pillion.net import outside as outside_module
from pillion.net.outside import Outlet, Outside

pytestmark = pytest.mark.anyio


def calling(name, path=b"/x", **attributes):
    deadline = time.monotonic() + 10.0
    return Call("invocation.call", Target("endpoint", name), path=path, deadline=deadline,
                **attributes)  # fmt: skip


class World:
    """An app outside, and what it was asked."""

    def __init__(self, app, requests):
        self.app = app
        self.requests = requests
        self.url = f"http://127.0.0.1:{app.port}"


@pytest.fixture
async def world():
    requests = []

    def answer(request):
        requests.append(request)
        return 200, b"outside"

    async with app_running(answering(answer)) as app:
        yield World(app, requests)


@pytest.fixture
async def going(wheel):
    """Make the way outside."""
    made = []

    def outside(outlets=None, body_limit=-1):
        one = Outside(outlets or {}, wheel, body_limit)
        made.append(one)
        return one

    yield outside
    for one in made:
        one.close()


async def test_a_url(going, world):
    """Path, query and headers go there; nothing of the mesh is added."""
    outside = going()
    headers = [(b"X-A", b"1")]
    reply = await outside.call(calling(world.url, b"/a", query=b"b=c", headers=headers))
    assert reply.body == b"outside"
    (request,) = world.requests
    assert (request.method, request.target) == ("GET", "/a?b=c")
    assert {name.lower() for name, _value in request.headers} == {"x-a", "host"}
    assert request.header("host") == f"127.0.0.1:{world.app.port}"


async def test_an_endpoint(going, world):
    """Its base path goes before, its headers over the caller's."""
    outlet = Outlet(f"{world.url}/base/", ((b"X-Key", b"k"), (b"x-two", b"2")))
    headers = [(b"x-key", b"mine"), (b"X-Other", b"o")]
    await going({"shop": outlet}).call(calling("shop", b"/a", headers=headers))
    (request,) = world.requests
    assert request.target == "/base/a"
    assert request.header("x-key") == "k"
    assert (request.header("x-two"), request.header("x-other")) == ("2", "o")
    assert headers == [(b"x-key", b"mine"), (b"X-Other", b"o")]


async def test_connections_are_kept_by_target(going, world):
    """Calls to the same place share them."""
    outside = going()
    for _ in range(3):
        await outside.call(calling(world.url))
    assert world.app.opened == 1


async def test_only_so_many_places_are_remembered(going, world, monkeypatch):
    """The one used longest ago is let go with its connections."""
    monkeypatch.setattr(outside_module, "MAX_ORIGINS", 2)
    outside = going()
    for prefix in ("a", "b", "a", "c"):
        await outside.call(calling(f"{world.url}/{prefix}"))
    await eventually(lambda: world.app.open == 2)
    assert world.app.opened == 3
    await outside.call(calling(f"{world.url}/a"))
    assert world.app.opened == 3


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/a b", "/a%20b/x"),
        ("/a%20b", "/a%20b/x"),
        ("/a HTTP/1.1", "/a%20HTTP/1.1/x"),
        ("/é", "/%C3%A9/x"),
        ("/a?b", "/a/x"),
        ("/a#b", "/a/x"),
        ("/a\r\nX-Evil:1", "/aX-Evil:1/x"),
        ("/a\0b", "/a%00b/x"),
    ],
)
async def test_a_url_cannot_break_out_of_its_request_line(going, world, path, target):
    """What may not stand there is escaped or left out."""
    await going().call(calling(world.url + path))
    (request,) = world.requests
    assert request.target == target
    assert request.header("x-evil") is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop",
        "ftp://host",
        "http://",
        "http://:80",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://a b",
        "http://a\0b",
        "http://é",
        "file:///etc/passwd",
    ],
)
async def test_what_is_no_url(going, url):
    """Told as such, and nothing is opened."""
    with pytest.raises(Invalid, match="is no http or https URL") as refused:
        await going().call(calling(url))
    assert not refused.value.reached
