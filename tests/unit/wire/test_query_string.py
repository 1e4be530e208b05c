"""Query parameters, and the metadata among them."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion.wire.query_string import metadata_of, parameters

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.dictionaries(TEXT, TEXT, max_size=5))
def test_parameters_round_trip(pairs: dict[str, str]) -> None:
    """What a client escapes comes back."""
    assert parameters(urlencode(pairs).encode()) == pairs


def test_the_first_of_two_counts() -> None:
    """Empty values are values; of two the first counts."""
    assert parameters(b"a=1&a=2&b=&c") == {"a": "1", "b": "", "c": ""}
    assert parameters(b"") == {}


def test_metadata() -> None:
    """The prefix is exact; the names behind it are taken as they are."""
    found = parameters(b"metadata.ttlInSeconds=5&Metadata.x=1&metadata.=2&other=3")
    assert metadata_of(found) == {"ttlInSeconds": "5", "": "2"}


def test_too_many() -> None:
    """There is a bound to the parameters of a request."""
    with pytest.raises(Invalid, match="256"):
        parameters(b"&".join(b"a=%d" % n for n in range(300)))
