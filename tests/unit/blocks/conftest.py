"""Fixtures of the blocks' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.blocks.harness import Declared


@pytest.fixture
async def components(tmp_path: Path) -> AsyncIterator[Declared]:
    """No component yet; those that the test opens are closed at its end."""
    async with Declared(tmp_path) as declared:
        yield declared
