"""Put measured sections into ``docs/performance.md`` without touching its prose."""

from __future__ import annotations

from pathlib import Path

from tests.bench.errors import BenchError

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


def replace_section(text: str, name: str, body: str) -> str:
    """Replace what stands between the markers of ``name``; add them at the end if there are none.

    Args:
        text: the whole document.
        name: of the section, such as ``invocation``.
        body: Markdown without the markers.

    Raises:
        BenchError: one marker is missing, repeated or out of order.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    section = f"{begin}\n\n{body.strip()}\n\n{end}"
    if begin not in text and end not in text:
        return f"{text.rstrip()}\n\n{section}\n"
    head, opened, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not opened or not closed or begin in rest or end in head + tail:
        raise BenchError(f"{DOCUMENT.name}: needs {begin} and {end} once each, in this order")
    return head + section + tail


def write_section(name: str, body: str, path: Path = DOCUMENT) -> None:
    """Write one measured section to the document.

    Raises:
        BenchError: the document is missing, or its markers are broken.
    """
    if not path.exists():
        raise BenchError(f"{path} is missing; it holds the prose around the figures")
    path.write_text(replace_section(path.read_text(), name, body))
