"""Tags as text and number, and the end of a prefix in SQLite's order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion_components.state import _table as table

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)


@given(st.integers(-(2**63), 2**63 - 1))
def test_tag_text_leads_back_to_its_number(number: int) -> None:
    """Every number that a row can hold has one text of 16 digits."""
    text = table.tag_text(number)
    assert len(text) == 16
    assert table.tag_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "g" * 16, "0" * 17, "+" + "0" * 15, "1_" * 8, "\u0661" * 16]
)
def test_other_texts_are_no_tags(text: str) -> None:
    """Only hexadecimal digits count, though Python's int reads more than those."""
    with pytest.raises(Invalid) as raised:
        table.tag_number(text)
    assert raised.value.reason == "etag-invalid"


@given(TEXT, TEXT)
def test_prefix_range_holds_exactly_what_begins_with_it(prefix: str, text: str) -> None:
    """A text is between a prefix and its end, by code points, iff it begins with the prefix."""
    end = table.after_prefix(prefix)
    below = isinstance(end, bytes) or text < end
    assert (text >= prefix and below) == text.startswith(prefix)
    assert prefix + text >= prefix
    assert isinstance(end, bytes) or prefix + text < end


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", b""),
        ("a", "b"),
        ("\ud7ff", "\ue000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff" * 2, b""),
    ],
)
def test_prefix_ends_at_the_next_character(prefix: str, end: str | bytes) -> None:
    """Surrogates are skipped, the last character carries, and a blob comes after every text."""
    assert table.after_prefix(prefix) == end
