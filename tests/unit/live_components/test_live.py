"""The components of one runtime: opened, looked up, changed and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import probes
from tests.support.conditions import eventually
from tests.unit.live_components.specs import probe, secret, vault

from pillion.call import Reply
from pillion.components.live import OpenComponents
from pillion.config.component import ComponentSpec
from pillion.errors import Invalid, Unavailable
from pillion.kinds.lock import LockStore
from pillion.kinds.secretstores import SecretStore
from pillion.kinds.state import StateStore
from pillion.operation import Operation, Request

pytestmark = pytest.mark.anyio


def store(components: OpenComponents, name: str = "store") -> Any:
    """Return the open state store, which must be there."""
    found = components.find(StateStore, name)
    assert found is not None
    return found.component


def reading(components: OpenComponents, name: str = "store") -> Callable[[], Awaitable[Reply]]:
    """Return a call of a block that reads a key of the store, whichever is in force."""

    async def read(_request: Request) -> Reply:
        found = components.find(StateStore, name)
        if found is None:
            return Reply(400)
        await found.component.get("k")
        return Reply(200, body=found.component.told.mode.encode())

    row = Operation("state.get", ("GET",), "state/{store}/{key}", read, group="state")
    [served] = components.rows([row], StateStore)
    assert (served.name, served.path) == (row.name, row.path)
    return lambda: served.endpoint(Request())


async def test_opens_looks_up_and_closes(components: OpenComponents) -> None:
    """What is declared is open while the context is, and found by its kind and name only."""
    async with components.open([probe("a"), probe("b"), vault()]):
        assert probes.opened[0] == "vault"
        assert sorted(probes.opened[1:]) == ["a", "b"]
        assert store(components, "a") is not store(components, "b")
        assert components.find(StateStore, "vault") is None
        assert components.find(SecretStore, "vault") is not None
        assert components.find(LockStore, "a") is None
        assert components.names(StateStore) == ["a", "b"]
        assert components.loaded == 3
    assert probes.closed[-1] == "vault", "secret stores close last"
    assert sorted(probes.closed) == ["a", "b", "vault"]


async def test_metadata_is_divided(components: OpenComponents) -> None:
    """The component is given its own keys; the block finds those of the runtime by their names."""
    spec = probe(SIZE="5", KEYPREFIX="name", actorStateStore="true")
    async with components.open([spec]):
        assert probes.contexts["store"].settings == {"SIZE": "5", "host": "h"}
        found = components.find(StateStore, "store")
        assert found is not None
        assert found.runtime_metadata == {"keyPrefix": "name", "actorStateStore": "true"}


async def test_context_and_templates(components: OpenComponents, tmp_path: Path) -> None:
    """Templates are filled in when a component opens, and it is told where it is opened."""
    async with components.open([probe(host="{uuid} {podName} {namespace} {appID}")]):
        context = probes.contexts["store"]
        uuid, *rest = context.settings["host"].split(" ")
        assert len(uuid) == 36
        assert rest == ["orders-0", "prod.orders", "orders"]
        assert (context.name, context.home) == ("store", tmp_path / "home")
        assert (context.app_id, context.namespace) == ("orders", "prod")


async def test_secrets(components: OpenComponents, tmp_path: Path) -> None:
    """References become values, and a secret that looks like a template stays as it is."""
    (tmp_path / "s").write_text("db/db={appID}\ndb/host=h1\n")
    spec = probe(password=secret("db"), host=secret("db", "host"), _secret_store="vault")
    async with components.open([spec, vault(file=str(tmp_path / "s"))]):
        assert probes.contexts["store"].settings == {"password": "{appID}", "host": "h1"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "store.yaml:1:1: size needs a secret: vault has no secret db"),
        ("db/x=1", 'store.yaml:1:1: size needs a secret: the secret "db" of vault has no key "k"'),
        ("db/k=hunter2", "store.yaml:1:1: size must be a whole number from 1 to 9"),
    ],
)
async def test_secrets_that_are_wrong(
    components: OpenComponents, tmp_path: Path, lines: str, expected: str
) -> None:
    """The message names the key and its place, and never what the secret is."""
    (tmp_path / "s").write_text(lines)
    spec = probe(size=secret("db", "k"), _secret_store="vault")
    with pytest.raises(Invalid) as caught:
        async with components.open([spec, vault(file=str(tmp_path / "s"))]):
            pass
    assert caught.value.message == expected
    assert probes.closed == ["vault"], "what was open is closed"
    assert components.failures == 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (probe(broken="true"), "store.yaml:1:0: component store: h is not there"),
        (
            probe(bug="true", password="hunter2"),
            "store.yaml:1:0: component store: it broke down: ZeroDivisionError, see its log",
        ),
        (
            probe(hang="true", _init_timeout=0.05),
            "store.yaml:1:0: component store: it was not open after 0.05 s, its initTimeout",
        ),
    ],
)
async def test_a_component_that_does_not_open(
    components: OpenComponents, spec: ComponentSpec, expected: str
) -> None:
    """The runtime does not start, and says why."""
    with pytest.raises(Unavailable) as caught:
        async with components.open([spec, probe("other")]):
            pass
    assert caught.value.message == expected
    assert probes.closed == ["other"]


async def test_ignored_errors(components: OpenComponents) -> None:
    """A component with ignoreErrors that does not open is not there, and the others are."""
    broken = probe("broken", broken="true", _ignore_errors=True)
    async with components.open([broken, probe()]):
        assert components.find(StateStore, "broken") is None
        assert components.names(StateStore) == ["store"]
        assert (components.failures, components.loaded) == (1, 1)


async def test_whoever_needs_a_store_that_was_ignored(components: OpenComponents) -> None:
    """A component whose secret store did not open does not open either, and says so."""
    lost = vault("lost", token=secret("t"), _secret_store="vault", _ignore_errors=True)
    with pytest.raises(Unavailable, match="component store: the secret store lost is not open"):
        async with components.open(
            [vault(), lost, probe(password=secret("p"), _secret_store="lost")]
        ):
            pass


async def test_breaking_down_later(components: OpenComponents) -> None:
    """A component that fails in the background is unavailable, and the runtime goes on."""
    async with components.open([probe(), probe("other")]):
        store(components).broke.set()
        await eventually(lambda: "store" in probes.closed, "the component is closed")
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="component store: it broke down"):
            components.find(StateStore, "store")
        assert store(components, "other").closed is False
        assert components.loaded == 1
        await components.apply([probe(), probe("other")])
        assert store(components).closed is False, "the next change opens it again"


# Embedded components.


async def test_embedded_components_open_at_their_first_use(
    components: OpenComponents, tmp_path: Path
) -> None:
    """Without a declared store the embedded one is there, and is opened by the first call."""
    async with components.open([]):
        assert components.names(StateStore) == ["statestore"]
        assert components.find(StateStore, "statestore") is None
        assert components.loaded == 0
        assert not (tmp_path / "home").exists()
        seen: list[object] = []

        async def look(_request: Request) -> Reply:
            seen.append(components.find(StateStore, "statestore"))
            return Reply(204)

        [row] = components.rows(
            [Operation("x", ("GET",), "state", look, group="state")], StateStore
        )
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(as_coroutine(row.endpoint(Request())))
        assert len(seen) == 5
        assert seen[0] is not None
        assert all(one is seen[0] for one in seen), "it is opened once"
        assert components.loaded == 1
        await components.apply([])
        assert components.find(StateStore, "statestore") is seen[0], "it goes on"
        await components.apply([probe()])
        assert components.find(StateStore, "statestore") is None, "the declared one is in its place"
        await components.apply([])
        assert components.names(StateStore) == ["statestore"]


async def test_an_embedded_component_that_does_not_open(
    components: OpenComponents, tmp_path: Path
) -> None:
    """Each call says why, until it opens."""
    (tmp_path / "home").write_text("in the way")
    async with components.open([]):
        read = reading(components, "statestore")
        for _ in range(2):
            with pytest.raises((Invalid, Unavailable)):
                await read()
        assert components.failures == 2
        (tmp_path / "home").unlink()

        async def look(_request: Request) -> Reply:
            assert components.find(StateStore, "statestore")
            return Reply(204)

        [row] = components.rows(
            [Operation("x", ("GET",), "state", look, group="state")], StateStore
        )
        assert (await row.endpoint(Request())).status == 204


async def test_describe(components: OpenComponents) -> None:
    """The metadata API shows what is declared and what is embedded, with Dapr's capabilities."""
    async with components.open([probe("b", "state.probe.transactional", _version="v2"), vault()]):
        described = {one["name"]: one for one in await components.describe()}
        assert described["b"] == {
            "name": "b",
            "type": "state.probe.transactional",
            "version": "v2",
            "capabilities": ["ETAG", "TRANSACTIONAL", "ACTOR"],
        }
        assert described["vault"]["capabilities"] == ["MULTIPLE_KEY_VALUES_PER_SECRET"]
        assert described["lockstore"]["type"] == "lock.sqlite"
        assert set(described) == {"b", "vault", "lockstore"}


# Changes.


async def test_add_change_remove(components: OpenComponents) -> None:
    """What is equal goes on untouched; what is new opens, what differs is exchanged."""
    async with components.open([probe("same"), probe("changed"), probe("gone")]):
        before = {name: store(components, name) for name in ("same", "changed", "gone")}
        await components.apply([probe("same"), probe("changed", mode="safe"), probe("new")])
        assert store(components, "same") is before["same"]
        assert store(components, "changed") is not before["changed"]
        assert store(components, "changed").told.mode == "safe"
        assert store(components, "new")
        assert components.find(StateStore, "gone") is None
        await eventually(lambda: len(probes.closed) == 2, "what is not used is closed")
        assert sorted(probes.closed) == ["changed", "gone"]


async def test_a_moved_component_is_the_same(components: OpenComponents) -> None:
    """Where in which file it stands does not matter."""
    spec = probe()
    moved = ComponentSpec(
        name=spec.name, type_name=spec.type_name, metadata=spec.metadata, mark="elsewhere:9:9"
    )
    async with components.open([spec]):
        before = store(components)
        await components.apply([moved])
        assert store(components) is before


@pytest.mark.parametrize(
    "bad",
    [
        [probe("new"), probe(broken="true")],
        [probe("new"), probe(hang="true", _init_timeout=0.05)],
        [probe("new"), probe(password=secret("p"), _secret_store="nowhere")],
        [probe("new"), probe(bug="true")],
    ],
)
async def test_a_bad_change_changes_nothing(
    components: OpenComponents, bad: list[ComponentSpec]
) -> None:
    """One component that does not open is enough: the old ones stay and the new ones close."""
    async with components.open([probe()]):
        before = store(components)
        with pytest.raises((Invalid, Unavailable)):
            await components.apply(bad)
        assert store(components) is before
        assert before.closed is False
        assert components.find(StateStore, "new") is None
        assert probes.opened.count("new") == probes.closed.count("new")


async def test_a_bad_change_of_an_ignored_component(components: OpenComponents) -> None:
    """The old one stays, and the rest of the change is made."""
    async with components.open([probe(_ignore_errors=True)]):
        before = store(components)
        await components.apply([probe(broken="true", _ignore_errors=True), probe("new")])
        assert store(components) is before
        assert store(components, "new")


async def test_a_changed_secret(components: OpenComponents, tmp_path: Path) -> None:
    """A component whose secret has another value is exchanged, one with the same value is not."""
    file = tmp_path / "s"
    file.write_text("a/a=1\nb/b=1\n")
    specs = [
        vault(file=str(file)),
        *(probe(n, password=secret(n), _secret_store="vault") for n in "ab"),
    ]
    async with components.open(specs):
        a, b = store(components, "a"), store(components, "b")
        file.write_text("a/a=2\nb/b=1\n")
        await components.apply(specs)
        assert store(components, "a").told.password == "2"
        assert store(components, "a") is not a
        assert store(components, "b") is b


async def test_a_changed_secret_store(components: OpenComponents, tmp_path: Path) -> None:
    """Secrets are looked up in the new store, before it has taken the place of the old one."""
    for name, value in (("s1", "1"), ("s2", "2")):
        (tmp_path / name).write_text(f"p/p={value}\n")
    spec = probe(password=secret("p"), _secret_store="vault")
    async with components.open([vault(file=str(tmp_path / "s1")), spec]):
        await components.apply([vault(file=str(tmp_path / "s2")), spec])
        assert store(components).told.password == "2"


# Calls.


async def test_a_call_keeps_its_component_open(components: OpenComponents) -> None:
    """A component that is taken out closes once the calls that began before have ended."""
    async with components.open([probe()]):
        old, read = store(components), reading(components)
        old.gate.clear()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(as_coroutine(read()))
            await eventually(lambda: probes.running["store"], "the call runs")
            await components.apply([probe(mode="safe")])
            assert (await read()).body == b"safe"
            await components.apply([])
            assert (await read()).status == 400
            assert old.closed is False
            old.gate.set()
            assert (await call).body == b"fast"
        await eventually(lambda: old.closed, "the old one is closed")


async def test_calls_during_many_changes(components: OpenComponents) -> None:
    """However calls and changes fall together, no call meets a component that is closed."""
    async with components.open([probe()]):
        read = reading(components)
        stop = asyncio.Event()
        served = 0

        async def caller() -> None:
            nonlocal served
            while not stop.is_set():
                assert (await read()).status == 200
                served += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(caller())
            for at in range(50):
                await components.apply([probe(mode=("safe", "fast")[at % 2])])
            stop.set()
        assert served > 50
        await eventually(lambda: len(probes.closed) == 50, "the old ones are closed")


async def test_a_call_that_is_given_up_counts_no_longer(components: OpenComponents) -> None:
    """A caller that hangs up does not keep a component open."""
    async with components.open([probe()]):
        old, read = store(components), reading(components)
        old.gate.clear()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(as_coroutine(read()))
            await eventually(lambda: probes.running["store"], "the call runs")
            await components.apply([])
            call.cancel()
        await eventually(lambda: old.closed, "it is closed")


async def test_leaving_does_not_wait_for_calls(components: OpenComponents) -> None:
    """At the end components close, though a call hangs; whoever drains has waited before."""
    async with components.open([probe()]):
        old, read = store(components), reading(components)
        old.gate.clear()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(as_coroutine(read()))
            await eventually(lambda: probes.running["store"], "the call runs")
            await components.apply([])
            await components._close()
            assert old.closed
            call.cancel()


async def as_coroutine(awaitable: Awaitable[Reply]) -> Reply:
    """Give a task something it takes."""
    return await awaitable
