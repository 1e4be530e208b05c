"""Positions, the environment in files, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.config.source import MAX_BYTES, Source, SyntaxProblem

LINES = st.lists(st.text("ab é☃\r", max_size=5), min_size=1, max_size=6)


@given(LINES, st.data())
def test_positions(lines: list[str], data: st.DataObject) -> None:
    """Line and column of every character are those an editor shows."""
    row = data.draw(st.integers(0, len(lines) - 1))
    column = data.draw(st.integers(0, len(lines[row])))
    offset = sum(len(line) + 1 for line in lines[:row]) + column
    assert Source("f", "\n".join(lines)).position(offset) == (row + 1, column + 1)


PIECES = st.lists(
    st.tuples(st.text("ab: \n", max_size=4), st.sampled_from(["", "$A", "${BB}", "$C"])), max_size=6
)


@given(PIECES)
def test_positions_are_those_of_the_file(pieces: list[tuple[str, str]]) -> None:
    """Where variables were filled in, positions and quotes are still those of the file."""
    environ = {"A": "one\ntwo", "BB": "", "C": "xyz"}
    text = "".join(f"{plain}{name}\n" for plain, name in pieces)
    source = Source("f", text, environ)
    written = Source("f", text)
    expanded = original = 0
    for plain, name in pieces:
        assert source.position(expanded) == written.position(original) or not plain
        value = environ.get(name.strip("${}"), "")
        if plain and value:
            mark = source.mark(expanded, expanded + len(plain) + len(value))
            assert source.written(mark) == plain + name
            inside = source.mark(expanded + len(plain) + 1, expanded + len(plain) + len(value))
            assert source.written(inside) == name
        expanded += len(plain) + len(value) + 1
        original += len(plain) + len(name) + 1
    assert len(source.text) == expanded


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A-${A}", "1-1"),
        ("$AB", ""),
        ("$A.B", "1.B"),
        ("100$", "100$"),
        ("a$ b", "a$ b"),
        ("a$.b", "a$.b"),
        ("${}x", "x"),
        ("${A", "A"),
        ("$1x", "x"),
        ("$$A", "A"),
        ('"d.+$"', '"d.+$"'),
        ("${A B}", ""),
        ("$é", "$é"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    """Variables are filled in as Go's os.ExpandEnv does it."""
    assert Source("f", text, {"A": "1"}).text == expanded


def test_unset_variables_are_known() -> None:
    """Names that are not set are remembered with their places, but not those in comments."""
    source = Source("f", "a: $NO_A\n# $NO_B\nb: 1 # $NO_C\nc: x$NO_D $1\n", {})
    assert [(str(mark), name) for mark, name in source.unset] == [
        ("f:1:4", "NO_A"),
        ("f:4:5", "NO_D"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: \xff\xfe", "f:2:4: is not UTF-8 text from here on"),
        (b"a: 1\nb: \x00", "f:2:4: the character U+0000 is not allowed in YAML"),
        (b"a: \xef\xbf\xbe", "f:1:4: the character U+FFFE is not allowed in YAML"),
        (b"#" * (MAX_BYTES + 1), "f:1:1: is over 1024 KiB, the most that is read of one file"),
    ],
)
def test_unreadable_data(data: bytes, message: str) -> None:
    """What is no text says where it stops being text."""
    with pytest.raises(SyntaxProblem) as caught:
        Source.decode("f", data)
    assert caught.value.message == message


def test_environment_cannot_make_a_file_huge() -> None:
    """The bound holds with the environment filled in."""
    with pytest.raises(SyntaxProblem, match="with the environment filled in"):
        Source.decode("f", b"$A " * 1000, {"A": "x" * 2000})


def test_environment_that_is_no_text() -> None:
    """Bytes that are no text in a variable are refused like those in a file."""
    with pytest.raises(SyntaxProblem, match=r"f:1:4: the character U\+DCFF is not allowed"):
        Source.decode("f", b"a: $A", {"A": "\udcff"})


def test_byte_order_mark() -> None:
    """A byte order mark is not part of the text."""
    assert Source.decode("f", b"\xef\xbb\xbfa: 1").text == "a: 1"


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a problem with its path."""
    path = tmp_path / "none.yaml"
    with pytest.raises(SyntaxProblem) as caught:
        Source.read(path)
    assert caught.value.message == f"{path}:1:1: cannot be read: No such file or directory"
