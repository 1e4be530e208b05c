"""Tables that read well on a terminal and are Markdown at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.stats import Spread


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table, padded; the first column is text, the others are figures.

    Raises:
        ValueError: a row has another number of cells than the header.
    """
    if any(len(row) != len(headers) for row in rows):
        raise ValueError("every row needs one cell per header")
    widths = [max(3, *(len(row[i]) for row in (headers, *rows))) for i in range(len(headers))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (headers, rule, *rows))


def figure(value: float) -> str:
    """Write a number with about three significant digits and no more decimals than that."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def with_range(spread: Spread, unit: str = "") -> str:
    """Write a median and, in brackets, the range it was taken from."""
    return f"{figure(spread.median)}{unit} ({figure(spread.low)}-{figure(spread.high)})"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join([first, *rest])} |"
