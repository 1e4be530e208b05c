"""The frame codec of the mesh protocol."""

from __future__ import annotations

import itertools
import re
import struct
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion.wire.frames import (
    Data,
    Frame,
    FrameReader,
    GoAway,
    Hello,
    Ping,
    Pong,
    Request,
    Reset,
    Response,
    Stop,
    Window,
    append,
    frames_itself,
    safe_headers,
    safe_target,
)

LIMIT = 1 << 20

streams = st.integers(1, 2**31 - 1)
headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=5)
text = st.text(max_size=30)
blob = st.binary(max_size=200)
frames = st.one_of(
    st.builds(
        Hello,
        st.integers(1, 9),
        st.integers(1024, 2**31 - 1),
        st.integers(0, 2**31 - 1),
        st.integers(1024, 2**31 - 1),
        st.integers(1024, 2**31 - 1),
    ),
    st.builds(
        Request,
        streams,
        text,
        text,
        text,
        blob,
        blob,
        blob,
        headers,
        st.integers(-1, 2**40),
        st.integers(0, 9),
        st.integers(-1, 2**40),
        blob,
        st.booleans(),
    ),
    st.builds(
        Response,
        streams,
        st.integers(200, 999),
        headers,
        st.integers(-1, 2**40),
        blob,
        st.booleans(),
    ),
    st.builds(Data, streams, blob, st.booleans()),
    st.builds(Window, streams, st.integers(1, 2**31 - 1)),
    st.builds(Reset, streams, text, text, text, text, st.booleans(), st.none() | st.floats(0, 1e9)),
    st.builds(Stop, streams),
    st.builds(Ping, st.integers(0, 2**31 - 1)),
    st.builds(Pong, st.integers(0, 2**31 - 1)),
    st.builds(GoAway, st.integers(0, 2**31 - 1), text),
)


def encode(*several: Frame) -> bytes:
    out = bytearray()
    for frame in several:
        append(frame, out)
    return bytes(out)


def read(reader: FrameReader, data: bytes) -> list[Frame]:
    reader.feed(data)
    found = []
    while (frame := reader.next()) is not None:
        found.append(frame)
    return found


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    """Frames come out as they went in, however the byte stream is cut."""
    reader = FrameReader(LIMIT)
    found: list[Frame] = []
    for piece in pieces(encode(*sent), cuts):
        found += read(reader, piece)
    assert found == sent


def test_byte_by_byte() -> None:
    """A frame that drips in one byte at a time is read once, whole."""
    reader = FrameReader(LIMIT)
    found: list[Frame] = []
    for byte in encode(Ping(1), Data(3, b"x" * 5000, end=True), Pong(2)):
        found += read(reader, bytes([byte]))
    assert found == [Ping(1), Data(3, b"x" * 5000, end=True), Pong(2)]


@given(frames)
def test_another_implementation_reads_our_frames(frame: Frame) -> None:
    """The bytes are plain msgpack arrays: the tag, then the fields in their order."""
    data = encode(frame)
    assert struct.unpack(">I", data[:4])[0] == len(data) - 4
    tag, *fields = msgpack.unpackb(data[4:])
    assert tag == type(frame).__struct_config__.tag
    ours = [getattr(frame, name) for name in frame.__struct_fields__]
    assert [_listed(value) for value in fields] == [_listed(value) for value in ours]


@given(frames)
def test_we_read_the_frames_of_another_implementation(frame: Frame) -> None:
    """What the msgpack package writes for the same values is the same frame."""
    fields = [getattr(frame, name) for name in frame.__struct_fields__]
    message = msgpack.packb([type(frame).__struct_config__.tag, *fields])
    assert read(FrameReader(LIMIT), struct.pack(">I", len(message)) + message) == [frame]


def _listed(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_listed(item) for item in value]
    return value


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    """Random bytes give frames, a wait for more, or Invalid; nothing else."""
    reader = FrameReader(LIMIT)
    with suppress(Invalid):
        read(reader, data)


@given(frames, st.data())
def test_mutated_frames_are_refused_or_read(frame: Frame, data: st.DataObject) -> None:
    """A frame with some bytes changed gives frames, a wait for more, or Invalid; nothing else."""
    wire = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(4, len(wire) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Invalid):
        read(FrameReader(LIMIT), bytes(wire))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x90",
        b"\x91",
        b"\xc0",
        msgpack.packb([0, 1]),
        msgpack.packb([63, 1]),
        msgpack.packb([-1]),
        msgpack.packb(["4", 1, b"", True]),
        msgpack.packb([4, 1, b""]),
        msgpack.packb([4, 0, b"", True]),
        msgpack.packb([4, 2**31, b"", True]),
        msgpack.packb([4, 1, "text", True]),
        msgpack.packb([4, 1, b"", 1]),
        msgpack.packb([5, 1, 0]),
        msgpack.packb([5, 1, -5]),
        msgpack.packb([6, 1, "a", "b", "c", "d", True, float("nan")]),
        msgpack.packb([6, 1, "a", "b", "c", "d", True, -1.0]),
        msgpack.packb([3, 1, 99, [], -1, b"", True]),
        msgpack.packb([3, 1, 200, [[b"a"]], -1, b"", True]),
        msgpack.packb([3, 1, 200, [["a", "b"]], -1, b"", True]),
        b"\x94\x04\x01\xc6\xff\xff\xff\xff\xc3",
        b"\x96\x03\x01\xcc\xc8\xdd\xff\xff\xff\xff\xff\xc0",
        b"\x92\x0a\x00\xa2\xff\xfe",
        b"\x93\x0a\x00\xa2\xff\xfe",
        b"\x95\x04\x01\xc4\x01a\xc3" + b"\x91" * 100_000,
        msgpack.packb([8, 1]) + b"\x00",
        msgpack.packb({"tag": 8}),
    ],
)
def test_what_is_no_frame_is_refused(message: bytes) -> None:
    """Wrong shapes, types, ranges and lengths, and unknown tags below 64, are protocol errors."""
    reader = FrameReader(LIMIT)
    with pytest.raises(Invalid) as caught:
        read(reader, struct.pack(">I", len(message)) + message)
    assert caught.value.reason == "protocol-error"


@pytest.mark.parametrize("tag", [64, 65, 1000, 2**40])
def test_tags_from_64_on_are_ignored(tag: int) -> None:
    """A peer may send kinds of frames that we do not know yet."""
    unknown = msgpack.packb([tag, {"anything": [1, 2.5, None]}])
    wire = encode(Ping(1)) + struct.pack(">I", len(unknown)) + unknown + encode(Ping(2))
    assert read(FrameReader(LIMIT), wire) == [Ping(1), Ping(2)]


def test_fields_added_at_the_end_are_ignored() -> None:
    """A peer of a later revision may append fields to frames that we know."""
    message = msgpack.packb([5, 7, 100, "new", {"x": 1}])
    wire = struct.pack(">I", len(message)) + message
    assert read(FrameReader(LIMIT), wire) == [Window(7, 100)]


def test_an_oversized_frame_is_refused_by_its_length() -> None:
    """The length alone decides, before anything is buffered."""
    with pytest.raises(Invalid, match="limit of 100"):
        read(FrameReader(100), struct.pack(">I", 101))


def test_a_frame_of_exactly_the_limit_is_read() -> None:
    """The limit counts the message without its length."""
    wire = encode(Data(1, b"x" * 90, end=False))
    reader = FrameReader(len(wire) - 4)
    assert read(reader, wire) == [Data(1, b"x" * 90, end=False)]
    assert reader.size == len(wire) - 4


@pytest.mark.parametrize(
    ("name", "value", "safe"),
    [
        (b"X-A", b"plain", True),
        (b"x", b"", True),
        (b"x", b"caf\xc3\xa9\tbar", True),
        (b"", b"v", False),
        (b"x y", b"v", False),
        (b"x:", b"v", False),
        (b"x\r", b"v", False),
        (b"x\xc3", b"v", False),
        (b"x", b"a\r\nb: c", False),
        (b"x", b"a\nb", False),
        (b"x", b"a\0b", False),
    ],
)
def test_headers_that_could_become_others_are_told(name: bytes, value: bytes, safe: bool) -> None:
    """Names are tokens; values hold no CR, LF or NUL."""
    assert safe_headers([(b"a", b"b"), (name, value)]) is safe


@pytest.mark.parametrize(
    ("method", "path", "query", "safe"),
    [
        (b"GET", b"/", b"", True),
        (b"M-SEARCH", b"/a%20b/caf\xc3\xa9", b"a=1&b=?", True),
        (b"", b"/", b"", False),
        (b"GET /x", b"/", b"", False),
        (b"GET", b"", b"", False),
        (b"GET", b"x", b"", False),
        (b"GET", b"/a b", b"", False),
        (b"GET", b"/a\r\n", b"", False),
        (b"GET", b"/", b"a b", False),
        (b"GET", b"/", b"\x7f", False),
    ],
)
def test_targets_that_could_become_others_are_told(
    method: bytes, path: bytes, query: bytes, safe: bool
) -> None:
    """A method is a token, a path begins with a slash, and neither holds spaces or controls."""
    assert safe_target(method, path, query) is safe


def test_the_worked_example_of_the_documentation() -> None:
    """The bytes in docs/mesh-protocol.md are what we write, and read, for these frames."""
    page = Path(__file__).parents[3] / "docs" / "mesh-protocol.md"
    (block,) = re.findall(r"```wire\n(.*?)```", page.read_text(), re.DOTALL)
    shown: dict[str, str] = {">": "", "<": ""}
    side = ""
    for line in block.splitlines():
        code = line.partition("#")[0]
        side = code[:1] if code[:1] in shown else side
        if code.strip():
            shown[side] += code.lstrip("><").replace(" ", "")
    forth = [
        Hello(1, 262144, 0, 65536, 65536),
        Request(
            1,
            "invocation.receive",
            "default",
            "orders",
            b"GET",
            b"/orders/7",
            b"",
            [(b"accept", b"*/*")],
            1998,
            0,
            0,
            b"",
            end=True,
        ),
        Request(
            2,
            "invocation.receive",
            "default",
            "orders",
            b"PUT",
            b"/orders/8",
            b"",
            [],
            -1,
            0,
            -1,
            b"",
            end=False,
        ),
        Data(2, b"abc", end=True),
        GoAway(0, "idle"),
    ]
    back = [
        Hello(1, 262144, 512, 65536, 65536),
        Response(1, 200, [(b"content-type", b"text/plain")], 2, b"ok", end=True),
        Reset(
            2,
            "NotFound",
            "no-order",
            "there is no order 8",
            "ERR_NOT_FOUND",
            reached=True,
            retry_after=None,
        ),
    ]
    for mark, expected in ((">", forth), ("<", back)):
        wire = bytes.fromhex(shown[mark])
        assert wire.hex() == encode(*expected).hex()
        assert read(FrameReader(LIMIT), wire) == expected


def test_a_reply_does_not_frame_itself():
    """Framing headers are found in any case; only a bodiless reply may announce a length."""
    for name in (b"Connection", b"TRANSFER-ENCODING", b"upgrade", b"TE", b"Trailer"):
        for bodiless in (False, True):
            assert frames_itself([(b"X-Fine", b"1"), (name, b"x")], bodiless=bodiless)
    assert frames_itself([(b"Content-Length", b"5")], bodiless=False)
    assert not frames_itself([(b"Content-Length", b"5")], bodiless=True)
    assert not frames_itself([(b"X-Fine", b"1"), (b"Date", b"now"), (b"ET", b"2")], bodiless=False)
