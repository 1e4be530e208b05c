"""Two runtimes on loopback, and peers that break the rules, for the tests of the mesh."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.mesh.certificates import Authority
from tests.unit.mesh.harness import Mesh


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run every asynchronous test here on both event loops."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _no_log_file(request: pytest.FixtureRequest) -> None:
    # pytest writes every record to its log file, the null device by default; the guard against
    # blocking calls takes that for our own doing.
    plugin: Any = request.config.pluginmanager.get_plugin("logging-plugin")
    plugin.log_file_handler.setLevel(logging.CRITICAL + 1)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that all well-behaved runtimes share."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(Path(tmp_path_factory.mktemp("stranger")), "stranger")


@pytest.fixture
async def mesh(authority: Authority) -> AsyncIterator[Mesh]:
    """Listeners and pools that are closed at the end."""
    mesh = Mesh(authority)
    try:
        yield mesh
    finally:
        await mesh.aclose()
