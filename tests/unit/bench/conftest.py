"""The bench's own app, started for the tests of what talks to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.systems import App, python_app


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The Python app in a process of its own."""
    directory: Path = tmp_path_factory.mktemp("app")
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(python_app(directory))
