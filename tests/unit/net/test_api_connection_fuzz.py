"""No bytes crash a connection: each one ends or answers, whatever came and however it left."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.conditions import eventually
from tests.support.raw_http import connected, request
from tests.unit.wire.test_http1_requests import SMUGGLING, UPGRADES, cut, messages

from pillion.body import BodyStream, read_all
from pillion.call import Reply
from pillion.errors import NotFound

pytestmark = pytest.mark.anyio

HEAD = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [A-Za-z ]+\r\n")


async def endpoint(request_):
    """Behave in every way an endpoint may: at once, later, early, streaming, failing."""
    kind = (len(request_.path) + len(request_.headers)) % 5
    if kind == 1:
        await asyncio.sleep(0)
    if kind == 2:
        raise NotFound("nothing here")
    body = b"" if kind == 3 else await read_all(request_.body, 1 << 20)
    if kind == 4:
        stream = BodyStream()
        stream.feed(body)
        stream.finish()
        return Reply(200, [], stream)
    return Reply(200, [], body)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Requests with a piece flipped, lost or doubled."""
    data = b"".join(draw(st.lists(messages(), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(0, 2))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 10))
        put = draw(st.binary(max_size=6) | st.just(data[at : at + size] * 2))
        data = data[:at] + put + data[at + size :]
    return data


BYTES = st.binary(max_size=200) | damaged() | st.lists(messages(), max_size=6).map(b"".join)
TROUBLE = [
    b"",
    *SMUGGLING.values(),
    *(upgrade * 3 for upgrade, _body in UPGRADES.values()),
    request("POST", body=b"x" * 100_000) + request("POST", "/12", body=b"y" * 70_000),
    request("POST", headers=[("Expect", "100-continue"), ("Content-Length", "70000")]) * 2,
    request("POST", headers=[("Content-Length", "2000000")]) + b"z" * 1000,
]


@pytest.fixture
async def api(start):
    return await start(endpoint)


async def attempt(api, data: bytes, places: list[int], leaving: str) -> None:
    """Send ``data`` in pieces on a connection of its own, and leave."""
    async with connected(api.port) as client:
        for piece in cut(data, places):
            if not client.writer.is_closing():
                client.writer.write(piece)
            await asyncio.sleep(0)
        if leaving == "half-close":
            client.half_close()
            answers = await client.rest()
            assert answers == b"" or HEAD.match(answers)
        elif leaving == "reset":
            await client.reset()
    await eventually(lambda: api.server.open_connections == 0, "the end of the connection")


LEAVING = ["half-close", "close", "reset"]


@given(BYTES, st.lists(st.integers(0, 10_000), max_size=6), st.sampled_from(LEAVING))
async def test_any_bytes_end_or_are_answered(api, data, places, leaving):
    """Answers are well-formed, nothing is logged as an error, nothing is left behind."""
    await attempt(api, data, places, leaving)


@pytest.mark.parametrize("leaving", LEAVING)
async def test_known_troublemakers_end_or_are_answered(api, leaving):
    """The same for what has been trouble somewhere, whole and in pieces."""
    for data in TROUBLE:
        await attempt(api, data, [], leaving)
        await attempt(api, data, list(range(0, len(data), 17))[:50], leaving)
