"""Replies off one connection, without I/O."""

from __future__ import annotations

from typing import Protocol

import httptools

from pillion.call import Headers
from pillion.wire.http1 import Refused, connection_tokens, without_named

REPLY_DROPPED = frozenset(
    {
        b"keep-alive",
        b"proxy-connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"proxy-authenticate",
    }
)
"""Reply headers that end at the runtime."""


class _HeadEnds(Exception):
    """Stops the lexer behind the head of a reply to HEAD."""


class ReplySink(Protocol):
    """What a ReplyReader tells its connection, in order."""

    def reply_started(self, status: int, headers: Headers, length: int | None) -> None:
        """The head is complete; ``length`` is None when the body's end is not announced."""

    def reply_data(self, chunk: bytes) -> None:
        """A piece of the body."""

    def reply_ended(self) -> None:
        """The reply is complete."""


class ReplyReader:
    """Reads replies off one connection, one for each :meth:`expect`.

    ``limit`` bounds the bytes of one header block, give or take the status line, and as many again
    around a chunked body's content. ``keep_alive`` says, after a reply, whether the
    peer keeps the connection.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_ended",
        "_head",
        "_headers",
        "_in_head",
        "_length",
        "_limit",
        "_parsed",
        "_parser",
        "_sink",
        "_unseen",
        "_until_close",
        "informational",
        "keep_alive",
    )

    def __init__(self, sink: ReplySink, limit: int) -> None:
        self._sink = sink
        self._limit = limit
        self._parser = httptools.HttpResponseParser(self)
        self._head = False
        self._in_head = False
        self._ended = True
        self._headers: Headers = []
        self._connection = b""
        self._length: int | None = None
        self._chunked = False
        self._until_close = False
        self._parsed = 0
        self._unseen = 0
        self.keep_alive = False
        self.informational = False

    def expect(self, *, head: bool) -> None:
        """Get ready for the reply to the next request; ``head`` if that was HEAD."""
        if self._head:
            self._parser = httptools.HttpResponseParser(self)
        self._head = head
        self._ended = False
        self.keep_alive = False
        self.informational = False
        self._reset()

    def feed(self, data: bytes) -> None:
        """Read ``data``.

        Raises:
            Refused: it is no HTTP/1.1 reply, its head is too large, or it answers nothing.
        """
        if self._ended:
            raise _surplus()
        self._unseen += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise Refused(502, "the reply switches protocols, which was not asked for") from None
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            if isinstance(error.__context__, _HeadEnds):
                return
            raise
        except httptools.HttpParserError as error:
            raise Refused(502, f"malformed reply: {error}") from None
        if self._parsed + self._unseen > self._limit:
            # What never ends is buffered by the parser, unseen by the callbacks.
            self._refuse_large()

    def end_of_stream(self) -> bool:
        """Tell the reader that the peer closed; True when that completes the reply."""
        if self._until_close and not self._in_head:
            self._until_close = False
            self._sink.reply_ended()
            return True
        return False

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A reply begins."""
        if self._ended:
            raise _surplus()
        self._reset()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers are dropped."""
        self._unseen = 0
        self._parsed += len(name) + len(value) + 4
        if self._parsed > self._limit:
            self._refuse_large()
        if not self._in_head:
            return
        key = name.lower()
        if key == b"content-length":
            self._length = int(value)
        elif key == b"transfer-encoding":
            if self._chunked or value.strip().lower() != b"chunked":
                raise Refused(502, "malformed reply: transfer-encoding")
            self._chunked = True
        elif key == b"connection":
            self._connection = self._connection + b"," + value if self._connection else value
        elif key not in REPLY_DROPPED:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        self._parsed = self._unseen = 0
        status = self._parser.get_status_code()
        if status < 100:
            raise Refused(502, "malformed reply: status")
        self.informational = status < 200
        if self.informational:
            return
        tokens = connection_tokens(self._connection)
        self._headers = without_named(self._headers, tokens)
        bodiless = self._head or status in (204, 304)
        self._until_close = not bodiless and self._length is None and not self._chunked
        if self._parser.get_http_version() == "1.1":
            self.keep_alive = b"close" not in tokens and not self._until_close
        else:
            self.keep_alive = b"keep-alive" in tokens and not self._until_close
        self._sink.reply_started(status, self._headers, self._length)
        if self._head:
            # llhttp would wait for the body that Content-Length announces.
            self._ended = True
            self._sink.reply_ended()
            raise _HeadEnds

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._unseen = 0
        self._sink.reply_data(chunk)

    def on_message_complete(self) -> None:
        """The reply is complete."""
        if not self.informational:
            self._until_close = False
            self._ended = True
            self._sink.reply_ended()

    def _reset(self) -> None:
        self._headers = []
        self._in_head = True
        self._connection = b""
        self._length = None
        self._chunked = False
        self._until_close = False
        self._parsed = 0
        self._unseen = 0

    def _refuse_large(self) -> None:
        raise Refused(502, f"the reply's header block is over {self._limit} bytes")


def _surplus() -> Refused:
    return Refused(502, "malformed reply: bytes behind its end")
