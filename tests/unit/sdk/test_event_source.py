"""Server-sent events, put together from chunks."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion_sdk import Event
from pillion_sdk.event_source import EventReader, EventTooLong

TEXTS = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1)


@given(
    st.lists(st.one_of(st.none(), st.lists(TEXTS, min_size=1, max_size=3))),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 400)),
)
def test_events_break_anywhere(texts, line_end, cuts):
    """Whatever the chunks, each event's data comes out once; comments and types do not."""
    wire = b"".join(
        b":\n\n" if lines is None else Event("\n".join(lines), event="x", id="1").encode()
        for lines in texts
    ).replace(b"\n", line_end)
    reader = EventReader()
    places = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
    chunks = [wire[start:end] for start, end in itertools.pairwise(places)]
    found = [data for chunk in chunks for data in reader.feed(chunk)]
    assert found == ["\n".join(lines).encode() for lines in texts if lines is not None]


def test_an_event_without_end_is_refused():
    """What is held in memory has a limit, which counts each event for itself."""
    reader = EventReader(limit=20)
    for _ in range(5):
        assert list(reader.feed(b"data: 0123456789\n\n")) == [b"0123456789"]
    assert not list(reader.feed(b"data: 01\ndata: 01\n"))
    with pytest.raises(EventTooLong):
        list(reader.feed(b"data"))
