"""A home, its authority, and both event loops for the tests of the identity part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pillion.call import Identity
from pillion.home import Home
from pillion.identity.authority import Authority


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run every asynchronous test here on both event loops."""
    return request.param


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh home."""
    return Home.locate(tmp_path / "home")


@pytest.fixture
def authority(home: Home) -> Authority:
    """A fresh authority of trust domain ``public``."""
    return Authority.open(home, "public")


@pytest.fixture
def orders() -> Identity:
    """The identity most tests use."""
    return Identity("public", "default", "orders")
