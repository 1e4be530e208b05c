"""Which failure speaks for several."""

from __future__ import annotations

from itertools import permutations

import pytest

from pillion.blocks.state_failures import save_failed, worst
from pillion.errors import Conflict, Failure, Invalid, Unavailable
from pillion.wire.errors_json import status_of

MISMATCH = Conflict("changed")
NO_TAG = Invalid("no tag", reason="etag-invalid")
TOO_LONG = Invalid("too long")
GONE = Unavailable("gone")


@pytest.mark.parametrize("order", list(permutations([MISMATCH, NO_TAG, TOO_LONG, GONE])))
@pytest.mark.parametrize(
    ("left_out", "status"),
    [([], 409), ([MISMATCH], 400), ([MISMATCH, NO_TAG], 500), ([MISMATCH, NO_TAG, GONE], 500)],
)
def test_tags_speak_first(order: list[Failure], left_out: list[Failure], status: int) -> None:
    """A mismatch goes over a tag that is none, and that over the rest, in any order."""
    errors = [(f"k{n}", error) for n, error in enumerate(order) if error not in left_out]
    failure = save_failed("s", worst(errors))
    assert status_of(failure) == status
    assert all(error.message in failure.message for _, error in errors)


def test_long_lists_are_cut() -> None:
    """Ten keys are named, and the rest is counted."""
    text = worst([(f"k{n}", GONE) for n in range(25)]).message
    assert "k9: gone" in text
    assert "k10" not in text
    assert text.endswith("; and 15 more")
