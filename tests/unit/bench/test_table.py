"""Tables and figures."""

from __future__ import annotations

import pytest
from tests.bench.stats import Spread
from tests.bench.table import figure, table, with_range


def test_table_is_markdown_in_line() -> None:
    """Text is on the left, figures are on the right, and every line is as wide as the others."""
    text = table(["System", "p99"], [["app", "1.5"], ["a longer name", "12,345"]])
    assert text.splitlines() == [
        "| System        |    p99 |",
        "| ------------- | -----: |",
        "| app           |    1.5 |",
        "| a longer name | 12,345 |",
    ]


def test_table_refuses_ragged_rows() -> None:
    """A row with a cell too few is a mistake and not an empty cell."""
    with pytest.raises(ValueError, match="one cell per header"):
        table(["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12"), (9.876, "9.88"), (12.34, "12.3"), (123.4, "123"), (45678.9, "45,679")],
)
def test_figure(value: float, text: str) -> None:
    """Figures show about three digits."""
    assert figure(value) == text


def test_with_range() -> None:
    """A median stands before the range it came from."""
    assert with_range(Spread(1.5, 1.2, 12.0), "x") == "1.50x (1.20-12.0)"
