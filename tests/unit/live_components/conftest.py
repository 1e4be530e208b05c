"""The runtime's components, of types that a test decides and sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import probes

from pillion import registry
from pillion.components.live import OpenComponents


@pytest.fixture(autouse=True)
def _types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        probes.install(tmp_path / "site", patch)
        yield
    registry._third_party.cache_clear()


@pytest.fixture
def components(tmp_path: Path) -> OpenComponents:
    """No components yet."""
    return OpenComponents(home=tmp_path / "home", app_id="orders", namespace="prod", pod="orders-0")
