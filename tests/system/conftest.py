"""Fixtures of the system tests: real processes on free ports, one home a test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.runtimes import Machine, machine_at
from tests.support.scripted_app import AppRequest, ScriptedApp, answering, app_running


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """A machine with nothing running."""
    async with machine_at(tmp_path / "home") as machine:
        yield machine


def mirror(asked: AppRequest) -> tuple[int, bytes]:
    """Answer with what was asked."""
    seen = {
        "method": asked.method,
        "target": asked.target,
        "headers": asked.headers,
        "body": asked.body.decode("latin-1"),
    }
    return 200, json.dumps(seen).encode()


@pytest.fixture
async def echo() -> AsyncIterator[ScriptedApp]:
    """An app that answers with what it was asked, as JSON."""
    async with app_running(answering(mirror)) as app:
        yield app
