"""What is left behind when a runtime is killed: nothing that stops the next one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.runtimes import Machine, machine_at
from tests.support.scripted_app import answering, app_running

pytestmark = pytest.mark.anyio

ROUNDS = 50


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """A machine with nothing running."""
    async with machine_at(tmp_path / "home") as machine:
        yield machine


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_fifty_kills_at_random_moments_need_no_clean_up(machine: Machine) -> None:
    """Killed anywhere between exec and serving, fifty times, the home still works."""
    chance = random.Random(20261123)
    for _ in range(ROUNDS):
        victim = machine.launch("victim")
        await asyncio.sleep(chance.uniform(0.0, 0.9))
        victim.kill()
        await asyncio.to_thread(victim.command.wait)
    async with app_running(answering(lambda _asked: (200, b"well"))) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        assert (await caller.invoke("callee", "x")).body == b"well"
        left = {path.name for path in (machine.home / "run").iterdir()}
        assert len(left) == 2, f"run files of the dead are gone: {left}"


async def test_a_damaged_registry_is_set_aside_and_heals(machine: Machine) -> None:
    """Garbage in the registry's file is named in the log, kept aside, and calls work again."""
    async with app_running(answering(lambda _asked: (200, b"well"))) as app:
        machine.home.mkdir(mode=0o700)
        (machine.home / "registry.db").write_bytes(b"this is no database" * 1000)
        callee = await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        assert (await caller.invoke("callee", "x")).body == b"well"
    aside = [path.name for path in machine.home.iterdir() if "corrupt" in path.name]
    assert aside
    assert "registry.db" in callee.command.err


async def test_a_locked_registry_is_one_clear_line(machine: Machine) -> None:
    """A registry that another program holds locked stops the start with a message."""
    import sqlite3

    first = await machine.runtime("first")
    await first.stop()
    holder = sqlite3.connect(machine.home / "registry.db", isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        blocked = machine.launch("blocked")
        assert await asyncio.to_thread(blocked.command.wait, 30.0) == 1
        lines = [line for line in blocked.command.err.splitlines() if "registry.db" in line]
        assert lines
        assert "Traceback" not in blocked.command.err
    finally:
        holder.close()
    again = await machine.runtime("again")
    assert await again.stop() == 0
