"""Replies are read the same however their bytes arrive; what is ambiguous breaks the connection."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.call import Headers
from pillion.wire.http1 import Refused
from pillion.wire.http1_replies import ReplyReader

LIMIT = 4096
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Sink:
    """Collects what a reader tells."""

    def __init__(self) -> None:
        self.started: list[tuple[int, Headers, int | None]] = []
        self.body = b""
        self.ended = 0

    def reply_started(self, status: int, headers: Headers, length: int | None) -> None:
        self.started.append((status, headers, length))

    def reply_data(self, chunk: bytes) -> None:
        assert self.started
        self.body += chunk

    def reply_ended(self) -> None:
        self.ended += 1


class Outcome:
    """What became of one reply."""

    def __init__(self, pieces: Iterable[bytes], *, head: bool = False, closes: bool = False):
        self.sink = Sink()
        self.reader = ReplyReader(self.sink, LIMIT)
        self.reader.expect(head=head)
        self.refusal: Refused | None = None
        self.by_close = False
        try:
            for piece in pieces:
                self.reader.feed(piece)
        except Refused as refusal:
            self.refusal = refusal
        else:
            if closes:
                self.by_close = self.reader.end_of_stream()

    @property
    def complete(self) -> bool:
        return self.sink.ended == 1

    @property
    def facts(self) -> object:
        keeps = self.reader.keep_alive if self.complete else None
        return vars(self.sink), keeps, self.refusal is not None, self.by_close


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


LINES = st.sampled_from(
    [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: x-a",
        "Upgrade: h2c",
        "x-a: 1",
        "X-B: 2",
        "bad name: 1",
        "X: a\r\n folded",
    ]
)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """A reply, mostly sound, perhaps behind interim ones."""
    version = draw(st.sampled_from(["HTTP/1.1"] * 4 + ["HTTP/1.0", "HTTP/3.0"]))
    status = draw(st.sampled_from([200, 204, 206, 302, 304, 404, 500, 999, 101, 42]))
    lines = [f"{version} {status} Some reason", *draw(st.lists(LINES, max_size=3))]
    body = draw(
        st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\nT: 1\r\n\r\n", b"x"])
    )
    interim = draw(st.sampled_from(["", "HTTP/1.1 100 Continue\r\n\r\n",
                                    "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * 2]))  # fmt: skip
    return interim.encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@given(replies(), st.booleans(), st.booleans(), st.lists(st.integers(0, 500)))
def test_any_split_gives_the_same_reply(
    data: bytes, head: bool, closes: bool, places: list[int]
) -> None:
    """Whole, in pieces or byte by byte."""
    if head:
        # What follows the head of a reply to HEAD is not the reader's to judge.
        data = data[: data.rindex(b"\r\n\r\n") + 4] if b"HTTP" in data else data
    outcomes = [
        Outcome(pieces, head=head, closes=closes).facts
        for pieces in ([data], cut(data, places), bytewise(data))
    ]
    if not head:
        assert outcomes[0] == outcomes[1] == outcomes[2]
    else:
        assert [outcome[0]["started"] for outcome in outcomes] == [  # type: ignore[index]
            outcomes[0][0]["started"]  # type: ignore[index]
        ] * 3


@given(st.binary(max_size=200) | st.binary(max_size=100).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    """Nothing but a refusal comes of it, or waiting for more."""
    assert Outcome([data]).facts == Outcome(bytewise(data)).facts


@pytest.mark.parametrize(
    ("data", "length", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 3, b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, b""),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 0, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None, b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 5, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 5, b""),
        (CHUNKED + b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 1\r\n\r\n", None, b"abcd"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, b"x"),
    ],
)
def test_framings(data: bytes, length: int | None, body: bytes) -> None:
    """A reply with a length, with chunks or without a body ends by itself."""
    outcome = Outcome([data])
    assert outcome.refusal is None
    assert outcome.complete
    assert outcome.reader.keep_alive
    ((_status, _headers, announced),) = outcome.sink.started
    assert (announced, outcome.sink.body) == (length, body)


def test_a_reply_without_framing_ends_with_its_connection() -> None:
    """Only the peer's close tells that it is whole, and the connection is spent."""
    data = b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nabc"
    assert not Outcome([data]).complete
    outcome = Outcome([data], closes=True)
    assert outcome.by_close
    assert outcome.complete
    assert outcome.sink.body == b"abc"
    assert not outcome.reader.keep_alive


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_cut_reply_is_not_complete(data: bytes) -> None:
    """A close in the middle is a break, not an end."""
    outcome = Outcome([data], closes=True)
    assert not outcome.by_close
    assert not outcome.complete


def test_the_reply_to_head_ends_with_its_head() -> None:
    """Its Content-Length announces nothing, and the next reply on the connection is read."""
    sink = Sink()
    reader = ReplyReader(sink, LIMIT)
    for number in range(3):
        reader.expect(head=number != 2)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + b"abc" * (number == 2))
        assert reader.keep_alive
    assert sink.ended == 3
    assert sink.started == [(200, [], 3)] * 3
    assert sink.body == b"abc"


@pytest.mark.parametrize(
    ("version", "line", "keeps"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: Close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive\r\n", True),
    ],
)
def test_keep_alive(version: str, line: str, keeps: bool) -> None:
    """The defaults of the two versions, and what Connection says over them."""
    outcome = Outcome([f"HTTP/{version} 200 OK\r\n{line}Content-Length: 0\r\n\r\n".encode()])
    assert outcome.complete
    assert outcome.reader.keep_alive == keeps


def test_hop_by_hop_headers_do_not_pass() -> None:
    """Nor do those that Connection names, nor what frames the body."""
    data = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: 5\r\nConnection: X-A\r\n"
        b"X-a: 1\r\nUpgrade: h2\r\nTrailer: x\r\nTE: x\r\nProxy-Authenticate: x\r\n"
        b"Set-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    outcome = Outcome([data])
    assert outcome.sink.started[0][1] == [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]


OK = b"HTTP/1.1 200 OK\r\n"
REFUSED = {
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "length and chunked": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "signed length": OK + b"Content-Length: +3\r\n\r\nabc",
    "compressed": OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "compressed chunks": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n",
    "status below 100": b"HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "folded": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "nul": OK + b"X: \0\r\n\r\n",
    "bad chunk": CHUNKED + b"zz\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("split", [False, True])
def test_ambiguous_replies_are_refused(data: bytes, split: bool) -> None:
    """Nothing of them counts as a reply."""
    outcome = Outcome(bytewise(data) if split else [data])
    assert outcome.refusal is not None
    assert outcome.refusal.status == 502
    assert not outcome.complete


@pytest.mark.parametrize("status", [200, 299, 418, 599, 600, 999])
def test_any_final_status_is_a_reply(status: int) -> None:
    """Also those that no RFC knows."""
    outcome = Outcome([b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status])
    assert outcome.sink.started == [(status, [], 0)]


@pytest.mark.parametrize("split", [False, True])
def test_a_second_reply_is_refused(split: bool) -> None:
    """One request has one answer; a second one never becomes the answer to the next request."""
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" * 2
    outcome = Outcome(bytewise(data) if split else [data])
    assert outcome.complete
    assert outcome.refusal is not None


def test_nothing_is_read_before_a_request() -> None:
    """A reply that nobody asked for is refused."""
    reader = ReplyReader(Sink(), LIMIT)
    with pytest.raises(Refused):
        reader.feed(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("split", [False, True])
def test_the_head_is_limited(split: bool) -> None:
    """A head within the limit passes and one over it does not, however it arrives."""
    for size, fits in ((LIMIT - 64, True), (LIMIT + 64, False)):
        data = OK + b"Content-Length: 0\r\nX: "
        data += b"a" * (size - len(data) - 4) + b"\r\n\r\n"
        outcome = Outcome(bytewise(data) if split else [data])
        assert outcome.complete == fits
        assert (outcome.refusal is None) == fits


ENDLESS = {
    "reason": (b"HTTP/1.1 200 ", b"O" * 100),
    "value": (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 100),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Many: 1\r\n" * 10),
    "interim headers": (b"HTTP/1.1 100 Continue\r\n", b"X-Many: 1\r\n" * 10),
    "chunk extension": (CHUNKED + b"5;", b"x" * 100),
    "trailer": (CHUNKED + b"0\r\nX: ", b"a" * 100),
    "trailers": (CHUNKED + b"0\r\n", b"X-Many: 1\r\n" * 10),
}


@pytest.mark.parametrize(("start", "endless"), ENDLESS.values(), ids=ENDLESS)
def test_nothing_grows_without_end(start: bytes, endless: bytes) -> None:
    """Whatever an app repeats for ever outside a body's content, it is refused at the limit."""
    outcome = Outcome([start] + [endless] * (3 * LIMIT // len(endless)))
    assert outcome.refusal is not None
    assert not outcome.complete


def test_many_small_chunks_are_no_overhead_to_refuse() -> None:
    """A body of ten thousand one-byte chunks passes, also byte by byte."""
    outcome = Outcome(bytewise(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"))
    assert outcome.complete
    assert outcome.sink.body == b"x" * 10_000
