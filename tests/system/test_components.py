"""Components from YAML: declared, refused, embedded, changed under load, and of a third party."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.raw_http import connected, request
from tests.support.runtimes import Machine, Runtime, poll

pytestmark = pytest.mark.anyio

VALUE = b'[{"key":"k","value":1}]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of resources."""
    path = tmp_path / "resources"
    path.mkdir()
    return path


def declare(folder: Path, name: str, type_name: str = "state.sqlite", **metadata: object) -> None:
    """Write a component's file by a rename."""
    document = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {
            "type": type_name,
            "metadata": [{"name": key, "value": value} for key, value in metadata.items()],
        },
    }
    (folder / f"{name}.tmp").write_text(json.dumps(document))
    (folder / f"{name}.tmp").rename(folder / f"{name}.yaml")


async def metadata(runtime: Runtime) -> dict[str, Any]:
    """Return what the metadata API says."""
    found: dict[str, Any] = json.loads((await runtime.ask("GET", "/v1.0/metadata")).body)
    return found


async def names(runtime: Runtime) -> set[str]:
    """Return the names of the components."""
    return {one["name"] for one in (await metadata(runtime))["components"]}


async def test_embedded_stores_are_there_without_yaml(machine: Machine) -> None:
    """State, locks and secrets work with nothing declared, and open when they are used."""
    runtime = await machine.runtime("orders", env={"GREETING": "hello"})
    assert await runtime.metric("pillion_components_loaded") == 0
    assert not (machine.home / "state.db").exists()
    components = (await metadata(runtime))["components"]
    assert {one["name"]: one["type"] for one in components} == {
        "statestore": "state.sqlite",
        "lockstore": "lock.sqlite",
        "secretstore": "secretstores.local.env",
    }
    [store] = [one for one in components if one["name"] == "statestore"]
    assert store["version"] == "v1"
    assert store["capabilities"] == ["ETAG", "TRANSACTIONAL", "TTL", "QUERY_API", "ACTOR"]
    assert (await runtime.ask("POST", "/v1.0/state/statestore", body=VALUE)).status == 204
    assert (await runtime.ask("GET", "/v1.0/state/statestore/k")).body == b"1"
    lock = b'{"resourceId":"r","lockOwner":"me","expiryInSeconds":5}'
    taken = await runtime.ask("POST", "/v1.0-alpha1/lock/lockstore", body=lock)
    assert json.loads(taken.body)["success"] is True
    secret = await runtime.ask("GET", "/v1.0/secrets/secretstore/GREETING")
    assert json.loads(secret.body) == {"GREETING": "hello"}
    assert await runtime.metric("pillion_components_loaded") == 3


async def test_all_mistakes_end_the_start(machine: Machine, folder: Path) -> None:
    """Nothing starts, and each mistake is a line with its place."""
    declare(folder, "one", "state.sqlite", durabilty="relaxed")
    declare(folder, "two", "state.sqlit")
    runtime = machine.launch("orders", "--resources-path", str(folder))
    assert await asyncio.to_thread(runtime.command.wait) == 2
    first, second = runtime.command.err.strip().splitlines()
    assert f"{folder}/one.yaml:1:" in first
    assert 'did you mean "durability"?' in first
    assert f"{folder}/two.yaml:1:" in second
    assert 'did you mean "state.sqlite"?' in second


@asynccontextmanager
async def load(runtime: Runtime, store: str, callers: int = 4) -> AsyncIterator[list[int]]:
    """Save and read without a pause; every status is noted."""
    statuses: list[int] = []
    stop = asyncio.Event()

    async def caller(at: int) -> None:
        save = request(
            "POST",
            f"/v1.0/state/{store}",
            body=json.dumps([{"key": f"k{at}", "value": 1}]).encode(),
        )
        read = request("GET", f"/v1.0/state/{store}/k{at}")
        async with connected(runtime.port) as client:
            while not stop.is_set():
                statuses.append((await client.ask(save, "POST")).status)
                statuses.append((await client.ask(read, "GET")).status)

    async with asyncio.TaskGroup() as group:
        for at in range(callers):
            group.create_task(caller(at))
        try:
            yield statuses
        finally:
            stop.set()


async def test_changes_under_load(machine: Machine, folder: Path) -> None:
    """Components come, change and go while calls run, and no call fails."""
    declare(folder, "store", timeout="5s")
    runtime = await machine.runtime("orders", "--resources-path", str(folder))
    async with load(runtime, "store") as statuses:
        for at in range(4):
            applied = await runtime.metric("pillion_reloads_total")
            declare(folder, "store", timeout=f"{6 + at}s")
            declare(folder, f"other{at}", "state.in-memory")

            async def grown(before: float = applied) -> bool:
                return await runtime.metric("pillion_reloads_total") > before

            await poll(grown, "the change is applied", 10.0)
        for at in range(4):
            (folder / f"other{at}.yaml").unlink()

        async def alone() -> bool:
            return {"store", "lockstore", "secretstore"} == await names(runtime)

        await poll(alone, "the others are gone", 10.0)
        served = len(statuses)
        await poll(lambda: asyncio.sleep(0, len(statuses) > served + 10), "calls go on")
    assert set(statuses) == {200, 204}
    assert await runtime.metric("pillion_reloads_refused_total") == 0


async def test_a_bad_change_under_load(machine: Machine, folder: Path) -> None:
    """The old component serves on; log, metadata and metrics say so until it is right."""
    declare(folder, "store")
    runtime = await machine.runtime("orders", "--resources-path", str(folder))
    async with load(runtime, "store") as statuses:
        declare(folder, "store", durability="sometimes", timeout="soon")

        async def refused() -> bool:
            return "refusedChange" in await metadata(runtime)

        await poll(refused, "the change is refused", 10.0)
        problems = (await metadata(runtime))["refusedChange"]["problems"]
        assert len(problems) == 2
        assert all(line.startswith(f"{folder}/store.yaml:1:") for line in problems)
        assert await runtime.metric("pillion_reload_refused") == 1
        assert await runtime.metric("pillion_reloads_refused_total") == 1
        lines = [line for line in runtime.command.err.splitlines() if "refused" in line]
        assert len(lines) == 1
        assert all(problem in lines[0] for problem in problems)
        declare(folder, "store", durability="relaxed")

        async def right() -> bool:
            return not await refused()

        await poll(right, "the right file is applied", 10.0)
        assert await runtime.metric("pillion_reload_refused") == 0
    assert set(statuses) == {200, 204}


@pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="the dev extra brings hatchling"
)
async def test_a_component_of_a_third_party(machine: Machine, folder: Path, tmp_path: Path) -> None:
    """What ``components new`` writes is installed by pip, is listed, and serves from YAML."""
    package, site = tmp_path / "package", tmp_path / "site"

    def run(*args: object, **env: str) -> str:
        command = [sys.executable, "-P", "-m", *map(str, args)]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout

    await asyncio.to_thread(run, "pillion_cli", "components", "new", "state", "acme", "-d", package)
    options = ("-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", site)
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    await asyncio.to_thread(lambda: run("pip", "install", *options, package, **paths))
    installed = {"PYTHONPATH": str(site)}
    listed = await asyncio.to_thread(
        lambda: run("pillion_cli", "components", "state.acme", "-o", "json", **installed)
    )
    described = json.loads(listed)
    assert described["module"] == "pillion_state_acme"
    assert [key["name"] for key in described["metadata"]] == ["maxValueSize"]
    declare(folder, "mine", "state.acme", maxValueSize="100")
    runtime = await machine.runtime("orders", "--resources-path", str(folder), env=installed)
    assert (await runtime.ask("POST", "/v1.0/state/mine", body=VALUE)).status == 204
    assert (await runtime.ask("GET", "/v1.0/state/mine/k")).body == b"1"
    assert {"name": "mine", "type": "state.acme", "version": "v1", "capabilities": ["ETAG"]} in (
        await metadata(runtime)
    )["components"]
    declare(folder, "mine", "state.acme", maxValueSize="none")

    async def refused() -> bool:
        return "refusedChange" in await metadata(runtime)

    await poll(refused, "a wrong value of its own setting is refused", 10.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["state", "lock", "secretstores"])
async def test_a_new_component_passes_its_suite(kind: str, tmp_path: Path) -> None:
    """What ``components new`` writes passes the suite that it inherits."""
    package = tmp_path / "package"

    def run(*args: object, **env: str) -> None:
        command = [sys.executable, "-P", "-m", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    await asyncio.to_thread(run, "pillion_cli", "components", "new", kind, "acme", "-d", package)
    info = package / "acme-1.0.dist-info"  # what pip makes of the project"s entry points
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    project = tomllib.loads((package / "pyproject.toml").read_text())
    [(name, value)] = project["project"]["entry-points"]["pillion.components"].items()
    (info / "entry_points.txt").write_text(f"[pillion.components]\n{name} = {value}\n")
    path = {"PYTHONPATH": ":".join([str(package), *filter(None, sys.path)])}
    await asyncio.to_thread(lambda: run("pytest", "-q", package, **path))
