"""One file's text, and where in it something stands.

Positions are those of the file as it is on disk, also where the environment was filled in: what
is quoted back to people is what they wrote, so a value that came from a variable stays unseen.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pillion.errors import Invalid

MAX_BYTES = 1024 * 1024
"""Bytes in one file."""

_MOST_SHOWN = 60
"""Characters of a file that a message repeats."""

_UNREADABLE = re.compile(
    "[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""What YAML 1.1, section 5.1, does not take for text."""

_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?0-9-])|([A-Za-z0-9_]+))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Mark(NamedTuple):
    """A stretch of a source, by offsets into ``Source.text``."""

    source: Source
    start: int
    end: int

    @property
    def order(self) -> tuple[int, int]:
        """Line and column, both from 1."""
        return self.source.position(self.start)

    def __str__(self) -> str:
        """Return ``file:line:column``."""
        line, column = self.order
        return f"{self.source.name}:{line}:{column}"


class SyntaxProblem(Invalid):
    """A file, or the rest of one, that cannot be read as YAML.

    Attributes:
        problem: what is wrong, without the place.
        mark: the place.
    """

    def __init__(self, problem: str, mark: Mark) -> None:
        super().__init__(f"{mark}: {problem}", reason="configuration")
        self.problem = problem
        self.mark = mark


class Source:
    """One file.

    Attributes:
        name: what messages call it, usually its path.
        text: what is parsed, with the environment filled in.
        unset: places and names of variables that were asked for and are not set.
    """

    __slots__ = ("_breaks", "_ends", "_original", "_pieces", "_starts", "name", "text", "unset")

    def __init__(self, name: str, text: str, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._original = text
        self._breaks: list[int] | None = None
        self._pieces: list[tuple[int, int]] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.unset: list[tuple[Mark, str]] = []
        self.text = text if environ is None or "$" not in text else self._expand(environ)

    @classmethod
    def read(cls, path: Path, environ: Mapping[str, str] | None = None) -> Source:
        """Read ``path``; fill in ``environ`` where it is given.

        Raises:
            SyntaxProblem: it cannot be read, is over ``MAX_BYTES``, or is not UTF-8 text.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise SyntaxProblem(problem, Mark(cls(str(path), ""), 0, 0)) from None
        return cls.decode(str(path), data, environ)

    @classmethod
    def decode(cls, name: str, data: bytes, environ: Mapping[str, str] | None = None) -> Source:
        """Make a source of ``data``; fill in ``environ`` where it is given.

        Raises:
            SyntaxProblem: it is over ``MAX_BYTES``, or is not UTF-8 text.
        """
        if len(data) > MAX_BYTES:
            problem = f"is over {MAX_BYTES // 1024} KiB, the most that is read of one file"
            raise SyntaxProblem(problem, Mark(cls(name, ""), 0, 0))
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            good = cls(name, error.object[: error.start].decode("utf-8-sig", "replace"))
            place = Mark(good, len(good.text), len(good.text))
            raise SyntaxProblem("is not UTF-8 text from here on", place) from None
        source = cls(name, text, environ)
        if len(source.text) > MAX_BYTES:
            problem = f"is over {MAX_BYTES // 1024} KiB with the environment filled in"
            raise SyntaxProblem(problem, source.mark(0))
        bad = _UNREADABLE.search(source.text)
        if bad is not None:
            problem = f"the character U+{ord(bad[0]):04X} is not allowed in YAML"
            raise SyntaxProblem(problem, source.mark(bad.start()))
        return source

    def mark(self, start: int, end: int | None = None) -> Mark:
        """Return the stretch from ``start`` to ``end``, by default one place."""
        return Mark(self, start, start if end is None else end)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column, from 1, of what stands at ``offset`` of ``text``."""
        at = self._before_expansion(offset, self._starts)
        if self._breaks is None:
            self._breaks = [match.start() for match in re.finditer("\n", self._original)]
        line = bisect_right(self._breaks, at - 1)
        return line + 1, at - (self._breaks[line - 1] if line else -1)

    def written(self, mark: Mark) -> str:
        """Return the stretch as it stands in the file, variables and all."""
        start = self._before_expansion(mark.start, self._starts)
        return self._original[start : self._before_expansion(mark.end, self._ends)]

    def shown(self, mark: Mark, text: str) -> str:
        """Return ``text``, which the stretch stands for, cut for a message.

        Where a variable is in it, it is what stands in the file instead.
        """
        last = bisect_right(self._starts, mark.end) - 1
        touched = last >= 0 and self._ends[last] >= mark.start
        return (self.written(mark).strip() if touched else text)[:_MOST_SHOWN]

    def _before_expansion(self, offset: int, boundaries: list[int]) -> int:
        """Return the offset in the file of ``offset`` in ``text``.

        Inside of what a variable became, it is the side that ``boundaries`` belongs to.
        """
        piece = bisect_right(self._starts, offset) - 1
        if piece < 0:
            return offset
        start, end = self._pieces[piece]
        if offset >= self._ends[piece] and not offset == self._starts[piece] == self._ends[piece]:
            return end + offset - self._ends[piece]
        return start if boundaries is self._starts else end

    def _expand(self, environ: Mapping[str, str]) -> str:
        """Fill in ``$NAME`` and ``${NAME}`` as Go's ``os.Expand`` does; unset ones become empty."""
        parts: list[str] = []
        done = length = 0
        for match in _REFERENCE.finditer(self._original):
            braced, unclosed, special, plain = match.groups()
            name = braced or special or plain or ""
            value = environ.get(name, "") if not unclosed else ""
            parts += [self._original[done : match.start()], value]
            length += match.start() - done
            self._pieces.append(match.span())
            self._starts.append(length)
            length += len(value)
            self._ends.append(length)
            done = match.end()
            if (
                name not in environ
                and _NAME.fullmatch(name)
                and not self._in_comment(match.start())
            ):
                self.unset.append((self.mark(self._starts[-1]), name))
        parts.append(self._original[done:])
        return "".join(parts)

    def _in_comment(self, offset: int) -> bool:
        line = self._original[self._original.rfind("\n", 0, offset) + 1 : offset]
        return line.lstrip().startswith("#") or " #" in line
