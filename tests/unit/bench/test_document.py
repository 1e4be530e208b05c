"""Measured sections in the document."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.document import DOCUMENT, replace_section, write_section
from tests.bench.errors import BenchError

PROSE = "# Title\n\nBefore.\n\n<!-- bench:a -->\nold\n<!-- /bench:a -->\n\nAfter.\n"


def test_only_the_section_changes() -> None:
    """The prose around a section stays, the figures inside are replaced, twice as well as once."""
    once = replace_section(PROSE, "a", "new\n")
    assert once == (
        "# Title\n\nBefore.\n\n<!-- bench:a -->\n\nnew\n\n<!-- /bench:a -->\n\nAfter.\n"
    )
    assert replace_section(once, "a", "new") == once


def test_a_new_section_goes_to_the_end() -> None:
    """A section without markers is added after everything else."""
    text = replace_section(PROSE, "b", "figures")
    assert text.startswith(PROSE.rstrip())
    assert text.endswith("<!-- bench:b -->\n\nfigures\n\n<!-- /bench:b -->\n")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- bench:a -->",
        "<!-- /bench:a -->",
        "<!-- /bench:a --> <!-- bench:a -->",
        "<!-- bench:a --> <!-- bench:a --> <!-- /bench:a -->",
        "<!-- bench:a --> <!-- /bench:a --> <!-- /bench:a -->",
    ],
)
def test_broken_markers(text: str) -> None:
    """Markers that do not pair up are an error, so that no prose is overwritten."""
    with pytest.raises(BenchError, match="once each"):
        replace_section(text, "a", "new")


def test_a_missing_document(tmp_path: Path) -> None:
    """Figures are not written into a document without prose."""
    with pytest.raises(BenchError, match="missing"):
        write_section("a", "new", tmp_path / "performance.md")


def test_the_document_has_its_sections() -> None:
    """Every measurement has its place in the project's document."""
    text = DOCUMENT.read_text()
    for name in ("invocation", "streaming", "registry"):
        assert replace_section(text, name, "x").count(f"<!-- bench:{name} -->") == 1
        assert f"<!-- bench:{name} -->" in text
