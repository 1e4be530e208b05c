"""Large bodies, up and down."""

from __future__ import annotations

import pytest
from tests.bench.streamer import StreamError, download, upload
from tests.bench.systems import App

LENGTH = 3 * 1024 * 1024 + 17


def test_upload_arrives_whole(app: App) -> None:
    """The app counts every byte that was sent."""
    count, seconds = upload("127.0.0.1", app.port, "/any/sink", LENGTH)
    assert count == LENGTH
    assert seconds > 0


def test_download_arrives_whole(app: App) -> None:
    """Every byte that was asked for comes."""
    count, seconds = download("127.0.0.1", app.port, f"/any/source?bytes={LENGTH}")
    assert count == LENGTH
    assert seconds > 0


def test_an_answer_that_is_not_http(app: App) -> None:
    """A port that speaks something else is an error with what it said."""
    with pytest.raises(StreamError, match="no complete answer"):
        download("127.0.0.1", app.port, "/a path with spaces")
