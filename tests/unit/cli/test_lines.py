"""Output cut into lines."""

from hypothesis import given
from hypothesis import strategies as st

from pillion_cli.supervise.lines import LineSplitter


def split(chunks, limit=16):
    splitter = LineSplitter(limit)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.flush()


chunks = st.lists(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\xff", b"bc"])).map(b"".join))


@given(chunks)
def test_no_byte_is_lost_and_no_line_is_too_long(data):
    """Whatever the chunks, the lines hold all bytes but the line ends, in order."""
    lines = split(data)
    assert b"".join(lines).replace(b"\r", b"") == b"".join(data).replace(b"\n", b"").replace(
        b"\r", b""
    )
    assert all(len(line) <= 16 and b"\n" not in line for line in lines)


@given(st.lists(st.binary(max_size=10).map(lambda line: line.translate(None, b"\r\n"))), st.data())
def test_lines_do_not_depend_on_the_chunks(lines, data):
    """Lines that are short enough come out as they went in, however they were cut."""
    whole = b"".join(line + data.draw(st.sampled_from([b"\n", b"\r\n"])) for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert split(pieces) == lines


def test_a_line_over_the_limit_is_cut():
    """The rest goes on as a line of its own, with or without an end."""
    assert split([b"x" * 40]) == [b"x" * 16, b"x" * 16, b"x" * 8]
    assert split([b"x" * 40 + b"\ny"]) == [b"x" * 16, b"x" * 16, b"x" * 8, b"y"]


def test_the_memory_of_an_endless_line_is_bounded():
    """A program that never ends its line does not fill the memory."""
    splitter = LineSplitter(16)
    for _ in range(100):
        splitter.feed(b"x" * 1000)
    assert len(splitter.flush()[0]) <= 16
