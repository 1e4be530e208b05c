"""Changed files, from the look at the folder to the change or its refusal."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support import probes
from tests.support.conditions import eventually

from pillion import registry, reload
from pillion.components.live import OpenComponents
from pillion.kinds.state import StateStore
from pillion.options import Options
from pillion.reload import Reload, snapshot
from pillion.resources import load

pytestmark = pytest.mark.anyio

Write = Callable[..., None]


@pytest.fixture(autouse=True)
def _types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        probes.install(tmp_path / "site", patch)
        patch.setattr(reload, "LOOK", 0.02)
        patch.setattr(reload, "REST", 0.01)
        yield
    registry._third_party.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of resources."""
    path = tmp_path / "resources"
    path.mkdir()
    return path


def declare(folder: Path, name: str, mode: str = "fast", **more: str) -> None:
    """Write a component's file, by a rename as editors and Kubernetes do."""
    pairs = {"host": "h", "mode": mode, **more}
    lines = [f"  - {{name: {key}, value: {value}}}\n" for key, value in pairs.items()]
    head = f"apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\n"
    text = f"{head}spec:\n  type: state.probe\n  metadata:\n{''.join(lines)}"
    (folder / f"{name}.tmp").write_text(text)
    (folder / f"{name}.tmp").rename(folder / f"{name}.yaml")


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[tuple[Reload, OpenComponents]]:
    """Run the components of a folder, and follow its changes."""
    options = Options(app_id="orders", resources_paths=(folder,))
    components = OpenComponents(home=folder.parent / "home", app_id="orders", namespace="default")
    loaded = await asyncio.to_thread(load, options)
    changes = Reload([folder], lambda: load(options), components, loaded)
    async with components.open(loaded.components), asyncio.TaskGroup() as group:
        task = group.create_task(changes.follow())
        yield changes, components
        task.cancel()


def modes(components: OpenComponents) -> dict[str, str]:
    """Return the mode that each open store is told."""
    found = {name: components.find(StateStore, name) for name in components.names(StateStore)}
    return {name: one.component.told.mode for name, one in found.items() if one is not None}


async def test_files_that_are_added_changed_and_removed(folder: Path) -> None:
    """Each is in force soon after it is written."""
    declare(folder, "a")
    async with following(folder) as (changes, components):
        assert modes(components) == {"a": "fast"}
        declare(folder, "b")
        await eventually(lambda: modes(components) == {"a": "fast", "b": "fast"}, "b is added")
        declare(folder, "a", "safe")
        await eventually(lambda: modes(components) == {"a": "safe", "b": "fast"}, "a is changed")
        (folder / "b.yaml").unlink()
        await eventually(lambda: modes(components) == {"a": "safe"}, "b is removed")
        await eventually(lambda: changes.applied == 3, "all are counted")
        assert (changes.refused, changes.refusal) == (0, None)


async def test_a_bad_file_is_refused_and_told_everywhere(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything stays, one line of the log has all mistakes, and so has the metadata."""
    declare(folder, "a")
    async with following(folder) as (changes, components):
        with caplog.at_level(logging.INFO, "pillion.reload"):
            declare(folder, "a", "saef", nothing="x")
            await eventually(lambda: changes.refused == 1, "the change is refused")
        assert modes(components) == {"a": "fast"}
        [line] = [record.getMessage() for record in caplog.records]
        assert 'did you mean "safe"?' in line
        assert "nothing is not a setting" in line
        described = changes.describe()
        assert described is not None
        assert len(described["problems"]) == 2
        declare(folder, "a", "safe")
        await eventually(lambda: modes(components) == {"a": "safe"}, "the right file is applied")
        assert changes.describe() is None


async def test_a_component_that_does_not_open_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one serves on; what may pass is tried again without a further change."""
    monkeypatch.setattr(reload, "RETRY", 0.05)
    declare(folder, "a")
    async with following(folder) as (changes, components):
        declare(folder, "a", "safe", broken="true")
        await eventually(lambda: changes.refused == 1, "the change is refused")
        tries = components.failures
        await eventually(lambda: components.failures > tries + 1, "it is tried again")
        assert modes(components) == {"a": "fast"}
        assert changes.refused == 1, "the same refusal counts once"


async def test_going_back_after_a_refusal(folder: Path) -> None:
    """When the files are again what is in force, the refusal is over."""
    declare(folder, "a")
    async with following(folder) as (changes, components):
        before = components.find(StateStore, "a")
        declare(folder, "a", "saef")
        await eventually(lambda: changes.refusal is not None, "the change is refused")
        declare(folder, "a")
        await eventually(lambda: changes.refusal is None, "the refusal is over")
        assert components.find(StateStore, "a") is before


async def test_a_folder_that_disappears_and_comes_back(folder: Path) -> None:
    """Without its folder everything stays; a new folder of the same name is read."""
    declare(folder, "a")
    async with following(folder) as (changes, components):
        away = folder.rename(folder.parent / "away")
        await eventually(lambda: changes.refused == 1, "the missing folder is refused")
        assert modes(components) == {"a": "fast"}
        declare(away, "a", "safe")
        away.rename(folder)
        await eventually(lambda: modes(components) == {"a": "safe"}, "it is read again")


def test_snapshot(folder: Path) -> None:
    """A rename, a new inode with old times, a link to another file and a new size are seen."""
    (folder / "a.yaml").write_text("a")
    (folder / "note.txt").write_text("a")
    first = snapshot([folder])
    assert snapshot([folder]) == first
    (folder / "note.txt").write_text("b")
    assert snapshot([folder]) == first, "other files do not count"
    state = (folder / "a.yaml").stat()
    (folder / "new").write_text("b")
    os.utime(folder / "new", ns=(state.st_atime_ns, state.st_mtime_ns))
    (folder / "new").rename(folder / "a.yaml")
    second = snapshot([folder])
    assert second != first
    (folder / "one").write_text("b")
    (folder / "a.yaml").unlink()
    (folder / "a.yaml").symlink_to(folder / "one")
    third = snapshot([folder])
    (folder / "two").write_text("b")
    (folder / "link").symlink_to(folder / "two")
    (folder / "link").rename(folder / "a.yaml")
    assert len({first, second, third, snapshot([folder])}) == 4
    assert snapshot([folder / "none"]) != snapshot([])
