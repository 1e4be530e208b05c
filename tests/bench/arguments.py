"""What the measurements' command lines have in common."""

from __future__ import annotations

import argparse

LONGEST_SECONDS = 3600
MOST = 100_000


def duration(text: str) -> float:
    """Read seconds: above 0, at most an hour."""
    value = float(text)
    if not 0 < value <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {LONGEST_SECONDS} seconds")
    return value


def whole(text: str) -> int:
    """Read a whole number from 1 up."""
    value = int(text)
    if not 1 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MOST}")
    return value


def wholes(text: str) -> list[int]:
    """Read whole numbers with commas between them."""
    return [whole(part) for part in text.split(",")]
