"""Frames of the mesh protocol: one msgpack array behind a 4-byte length. See docs/mesh-protocol.md.

Each kind of frame is a Struct; its tag is the first element of the array and its fields follow in
their order. Fields are only ever added at the end, with a default. Nothing here does I/O.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from pillion.call import Headers
from pillion.errors import Invalid

PROTOCOL = "pillion/1"
"""The ALPN name; its number is the major version of the protocol."""

REVISION = 1
"""The highest revision of that version we speak; both sides use the lower of the two."""

IGNORED_FROM = 64
"""Frames with this tag or a higher one may be ignored by whoever does not know them."""

PREFIX = 4
"""Bytes of the length in front of a frame, big-endian; it does not count itself."""

MAX_STREAM = 2**31 - 1
MAX_CREDIT = 2**31 - 1
MAX_SIZE = 2**62

StreamId = Annotated[int, Meta(ge=1, le=MAX_STREAM)]
Count = Annotated[int, Meta(ge=0, le=MAX_CREDIT)]
Millis = Annotated[int, Meta(ge=-1, le=MAX_SIZE)]
Length = Annotated[int, Meta(ge=-1, le=MAX_SIZE)]


class Hello(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The first frame each side sends: what it can take.

    Attributes:
        revision: the highest revision it speaks.
        window: bytes of body it takes on a new stream before it grants more.
        max_streams: streams that may be open at one time; 0 when it takes no calls.
        max_payload: bytes of body in one frame.
        max_head: bytes of a frame beside its body.
    """

    revision: Annotated[int, Meta(ge=1, le=MAX_CREDIT)]
    window: Annotated[int, Meta(ge=1024, le=MAX_CREDIT)]
    max_streams: Count
    max_payload: Annotated[int, Meta(ge=1024, le=MAX_CREDIT)]
    max_head: Annotated[int, Meta(ge=1024, le=MAX_CREDIT)]


class Request(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """Opens a stream: the head of a call and, when ``end``, all of its body.

    Attributes:
        stream: higher than any before it on this connection.
        operation: what the callee is asked to do, such as ``invocation.receive``.
        namespace: where the target app lives.
        app_id: the target app.
        method: the HTTP verb.
        path: normalised and escaped.
        query: without ``?``.
        headers: pairs of name and value.
        remaining: milliseconds until the deadline, -1 for none.
        attempt: 0 for the first try.
        length: bytes in the whole body, -1 when not known.
        body: its first bytes.
        end: True when that is all of it.
    """

    stream: StreamId
    operation: str
    namespace: str
    app_id: str
    method: bytes
    path: bytes
    query: bytes
    headers: Headers
    remaining: Millis
    attempt: Count
    length: Length
    body: bytes
    end: bool


class Response(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """The head of a reply and, when ``end``, all of its body."""

    stream: StreamId
    status: Annotated[int, Meta(ge=200, le=999)]
    headers: Headers
    length: Length
    body: bytes
    end: bool


class Data(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """More of a body."""

    stream: StreamId
    payload: bytes
    end: bool


class Window(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """Grants ``credit`` more bytes of body on a stream."""

    stream: StreamId
    credit: Annotated[int, Meta(ge=1, le=MAX_CREDIT)]


class Reset(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """Ends a stream at once, both ways: a failure, or a cancellation.

    Attributes:
        kind: a class name of ``pillion.errors``, or ``Cancelled``.
        reason: a short, stable word.
        message: one sentence for people.
        code: the stable error code.
        reached: True when the call may have arrived at the app.
        retry_after: seconds after which another try makes sense, or None.
    """

    stream: StreamId
    kind: str
    reason: str
    message: str
    code: str
    reached: bool
    retry_after: Annotated[float, Meta(ge=0)] | None


class Stop(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """The callee reads no more of the request body; the reply goes on."""

    stream: StreamId


class Ping(msgspec.Struct, array_like=True, tag=8, frozen=True, gc=False):
    """Asks for a Pong with the same number."""

    number: Count


class Pong(msgspec.Struct, array_like=True, tag=9, frozen=True, gc=False):
    """Answers a Ping."""

    number: Count


class GoAway(msgspec.Struct, array_like=True, tag=10, frozen=True, gc=False):
    """The sender will close: no stream above ``last`` was or will be handled by it."""

    last: Annotated[int, Meta(ge=0, le=MAX_STREAM)]
    reason: str


Frame: TypeAlias = Hello | Request | Response | Data | Window | Reset | Stop | Ping | Pong | GoAway

_length = struct.Struct(">I")
_unpack = _length.unpack_from
_pack_into = _length.pack_into
_encode_into = msgspec.msgpack.Encoder().encode_into
_decode: Callable[[bytes], Frame] = msgspec.msgpack.Decoder(Frame).decode
_outline = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_tag = msgspec.msgpack.Decoder(int).decode


def append(frame: Frame, out: bytearray) -> int:
    """Append ``frame`` with its length to ``out``; return the length without the prefix.

    Raises:
        Invalid: a field is not of its type, or text with lone surrogates; ``out`` is as before.
    """
    start = len(out)
    out += b"\0\0\0\0"
    try:
        _encode_into(frame, out, start + PREFIX)
    except (TypeError, ValueError, OverflowError) as error:
        del out[start:]
        raise Invalid(
            f"a {type(frame).__name__} cannot be sent: {type(error).__name__}",
            reason="not-encodable",
            reached=False,
        ) from error
    length = len(out) - start - PREFIX
    _pack_into(out, start, length)
    return length


def _may_ignore(message: bytes) -> bool:
    try:
        parts = _outline(message)
        return bool(parts) and _tag(parts[0]) >= IGNORED_FROM
    except (ValueError, RecursionError):
        return False


class FrameReader:
    """Cuts a byte stream into frames.

    Frames are decoded from the received bytes where they lie; only one that arrives in pieces is
    put together, once, when its last piece is there. At most one frame is held.

    Attributes:
        size: bytes of the last frame without its length.
    """

    __slots__ = ("_at", "_data", "_end", "_have", "_max", "_need", "_pieces", "size")

    def __init__(self, max_frame: int) -> None:
        self.size = 0
        self._max = max_frame
        self._data = b""
        self._at = 0
        self._end = 0
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0

    def feed(self, data: bytes) -> None:
        """Take received bytes; :meth:`next` must have returned None before."""
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        self._data = data
        self._at = 0
        self._end = len(data)

    def next(self) -> Frame | None:
        """Return the next frame, None when more bytes are needed.

        Raises:
            Invalid: the bytes are not frames; nothing more can be read.
        """
        while True:
            at = self._at
            start = at + PREFIX
            if start > self._end:
                self._keep(PREFIX)
                return None
            (length,) = _unpack(self._data, at)
            if length > self._max:
                raise Invalid(
                    f"a frame of {length} bytes is over the limit of {self._max}",
                    reason="protocol-error",
                )
            stop = start + length
            if stop > self._end:
                self._keep(PREFIX + length)
                return None
            self._at = stop
            self.size = length
            message = self._data[start:stop]
            try:
                return _decode(message)
            except (ValueError, RecursionError) as error:
                if not (isinstance(error, msgspec.ValidationError) and _may_ignore(message)):
                    raise Invalid(f"not a frame: {error}", reason="protocol-error") from None

    def _keep(self, need: int) -> None:
        left = self._end - self._at
        if left:
            self._pieces.append(self._data[self._at :])
            self._have = left
            self._need = need
        self._data = b""
        self._at = self._end = 0


_NOT_VALUE = bytes(set(range(256)) - set(b"\0\r\n"))
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})
_not_in_target = re.compile(rb"[^\x21-\x7e\x80-\xff]").search


def safe_headers(headers: Headers) -> bool:
    """Tell whether no header could become something else in an HTTP/1.1 head.

    Names are tokens and values hold no CR, LF or NUL (RFC 9110 sections 5.1 and 5.5).
    """
    names = [name for name, _ in headers]
    return not (
        b"".join(names).translate(None, _TOKEN)
        or b"".join([value for _, value in headers]).translate(None, _NOT_VALUE)
        or b"" in names
    )


_FRAMING = frozenset(
    {b"connection", b"transfer-encoding", b"upgrade", b"te", b"trailer", b"content-length"}
)
_FRAMING_LENGTHS = frozenset(map(len, _FRAMING))


def frames_itself(headers: Headers, *, bodiless: bool) -> bool:
    """Tell whether a reply's headers speak of its framing, which belongs to each connection.

    One without a body (to HEAD, or 304) may say the length that its body would have had.
    """
    for name, _value in headers:
        if len(name) in _FRAMING_LENGTHS:
            key = name.lower()
            if key in _FRAMING and not (bodiless and key == b"content-length"):
                return True
    return False


def safe_target(method: bytes, path: bytes, query: bytes) -> bool:
    """Tell whether these could only be a request line's method and target (RFC 9112 section 3)."""
    return (
        path[:1] == b"/"
        and _not_in_target(path + query) is None
        and (method in _METHODS or (method != b"" and not method.translate(None, _TOKEN)))
    )
