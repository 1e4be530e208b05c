"""Connection strings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillion_components._sqlite_location import connection_string, location


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        ("data.db", "data.db"),
        ("/var/data.db", "/var/data.db"),
        ("file:data.db", "data.db"),
        ("file:/var/my%20data.db", "/var/my data.db"),
        ("file:///var/data.db", "/var/data.db"),
        ("file://localhost/var/data.db", "/var/data.db"),
    ],
)
def test_paths_and_uris_name_a_file(text: str, path: str) -> None:
    """A path is itself; a URI is decoded."""
    assert connection_string(text) == path


@pytest.mark.parametrize(
    "text",
    [
        ":memory:",
        "file::memory:?cache=shared",
        "file:x?mode=memory",
        "file:x?mode=ro",
        "file:x#y",
        "file://host/x",
    ],
)
def test_what_is_not_a_local_file_is_refused(text: str) -> None:
    """Memory, other hosts and parameters are mistakes, not surprises."""
    with pytest.raises(ValueError, match=r"^a (file|path)"):
        connection_string(text)


def test_the_default_is_in_the_home(tmp_path: Path) -> None:
    """Without a path the file is in the home; with one, from the working directory."""
    assert location("", tmp_path, "state.db") == tmp_path / "state.db"
    assert location("data.db", tmp_path, "state.db") == Path.cwd() / "data.db"
    assert location("/x/data.db", tmp_path, "state.db") == Path("/x/data.db")
