"""What every registry keeps: snapshots, ordered changes, leases, and the truth in the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillion.errors import Invalid
from pillion.kinds.component import Context
from pillion.kinds.registry import Change, Gone, Instance, Put, Registry, Snapshot
from pillion.node import node_id
from pillion_conformance.plugin import Opener, Subject

pytestmark = pytest.mark.anyio

DEADLINE = 10.0
ROOT = Path(__file__).parents[2]


def instance(identifier: str, app_id: str = "orders", **fields: Any) -> Instance:
    values: dict[str, Any] = {
        "namespace": "default",
        "host": "127.0.0.1",
        "port": 7000,
        "pid": os.getpid(),
        "node": node_id(),
        "since": 1_700_000_000.25,
    }
    return Instance(id=identifier, app_id=app_id, **(values | fields))


class View:
    """A watcher's picture of an app, and the changes it was made from."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.instances: dict[str, Instance] = {}
        self._news = asyncio.Event()

    def take(self, change: Change) -> None:
        self.changes.append(change)
        match change:
            case Snapshot(instances):
                self.instances = {one.id: one for one in instances}
            case Put(one):
                self.instances[one.id] = one
            case Gone(identifier):
                assert identifier in self.instances, "told of the end of an unknown instance"
                del self.instances[identifier]
        self._news.set()

    async def until(self, condition: Callable[[View], bool], deadline: float = DEADLINE) -> None:
        async with asyncio.timeout(deadline):
            while not condition(self):
                self._news.clear()
                await self._news.wait()

    async def until_ids(self, *identifiers: str) -> None:
        await self.until(lambda view: view.instances.keys() == set(identifiers))


@asynccontextmanager
async def watching(
    registry: Registry, app_id: str = "orders", namespace: str = "default"
) -> AsyncIterator[View]:
    """Watch in a task; the snapshot has arrived when the context is entered."""
    view = View()

    async def follow() -> None:
        async with aclosing(_watch(registry, app_id, namespace)) as changes:
            async for change in changes:
                view.take(change)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        await view.until(lambda view: bool(view.changes))
        yield view
        task.cancel()


def _watch(
    registry: Registry, app_id: str = "orders", namespace: str = "default"
) -> AsyncGenerator[Change, None]:
    return registry.watch(namespace, app_id)


def ended_process() -> int:
    """Return the id of a process that has ended and was collected."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# Opening.


async def test_open_component_answers_ping(open_component: Opener) -> None:
    """A component that opened works."""
    async with open_component() as registry:
        await registry.ping()
        assert await registry.instances() == ()


async def test_unknown_setting_is_refused(
    subject: Subject, component_settings: Mapping[str, Any], home: Path
) -> None:
    """A misspelt setting is an error that names it, not a surprise later."""
    settings = {**component_settings, "no-such-setting": 1}
    context = Context(name="subject", home=home, app_id="tester", settings=settings)
    with pytest.raises(Invalid, match="no-such-setting"):
        async with subject.component.open(context):
            pass


async def test_closing_ends_watches(open_component: Opener) -> None:
    """Who still watches when the component closes sees the end, not a hang."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(open_component())
        async with aclosing(_watch(registry)) as changes:
            assert await anext(changes) == Snapshot(())
            async with asyncio.TaskGroup() as group:
                rest = group.create_task(_collect(changes))
                await asyncio.sleep(0)
                await stack.aclose()
                async with asyncio.timeout(DEADLINE):
                    await rest
        assert rest.result() == []


async def _collect(changes: AsyncIterator[Change]) -> list[Change]:
    return [change async for change in changes]


# Registering.


async def test_instance_arrives_as_it_was_registered(open_component: Opener) -> None:
    """Every field is the same for another opener of the registry."""
    registered = instance(
        "one",
        namespace="prod",
        host="fd00::1",
        port=65535,
        labels={"version": "v1", "zone": "Zürich"},
        protocol="https",
        healthy=False,
        pid=4_000_000,
        node="elsewhere",
    )
    async with (
        open_component() as here,
        open_component() as there,
        here.registered(registered, 30.0),
        watching(there, namespace="prod") as view,
    ):
        assert view.changes == [Snapshot((registered,))]
        assert await there.instances() == (registered,)


async def test_registration_outlives_its_lease(open_component: Opener) -> None:
    """The registry renews the lease itself: nothing is said about the instance meanwhile."""
    async with (
        open_component() as here,
        open_component() as there,
        watching(there) as view,
        here.registered(instance("one"), 0.3),
    ):
        await view.until_ids("one")
        heard = len(view.changes)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            assert [one.id for one in await there.instances()] == ["one"]
            await asyncio.sleep(0.05)
        assert len(view.changes) == heard


async def test_leaving_removes_at_once(open_component: Opener) -> None:
    """When the context is left the instance is gone, long before its lease."""
    async with open_component() as here, open_component() as there, watching(there) as view:
        async with here.registered(instance("one"), 60.0):
            await view.until_ids("one")
        assert await there.instances() == ()
        await view.until_ids()
        assert view.changes[-1] == Gone("one")


async def test_leaving_by_an_error_or_a_cancellation_removes_too(open_component: Opener) -> None:
    """However the context ends, the instance leaves."""
    async with open_component() as here, open_component() as there, watching(there) as view:
        with pytest.raises(ZeroDivisionError):
            async with here.registered(instance("one"), 60.0):
                raise ZeroDivisionError
        assert await there.instances() == ()

        async def hold() -> None:
            async with here.registered(instance("two"), 60.0):
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(hold())
            await view.until_ids("two")
            task.cancel()
        await view.until_ids()


async def test_restarted_process_is_a_new_instance(open_component: Opener) -> None:
    """Two instances at one address are two; the end of the old one leaves the new one alone."""
    async with (
        open_component() as here,
        open_component() as there,
        watching(there) as view,
        here.registered(instance("new"), 30.0),
    ):
        async with here.registered(instance("old"), 30.0):
            await view.until_ids("old", "new")
        await view.until_ids("new")
        assert [one.id for one in await there.instances()] == ["new"]


async def test_health_is_seen_as_a_put(open_component: Opener) -> None:
    """An update changes the health, in order and nothing else, and renewals keep it."""
    async with (
        open_component() as here,
        open_component() as there,
        watching(there) as view,
        here.registered(instance("one"), 0.3) as registration,
    ):
        await view.until_ids("one")
        await registration.update(healthy=False)
        await view.until(lambda view: not view.instances["one"].healthy)
        assert view.changes[-1] == Put(replace(instance("one"), healthy=False))
        heard = len(view.changes)
        await asyncio.sleep(0.5)  # several renewals
        assert len(view.changes) == heard
        await registration.update(healthy=True)
        await view.until(lambda view: view.instances["one"].healthy)
        assert view.changes[-1] == Put(instance("one"))


async def test_forgotten_instance_is_registered_again(open_component: Opener) -> None:
    """An instance that the store lost is back after the next renewal, with its health."""
    phantom = instance("one", pid=ended_process())
    async with (
        open_component() as here,
        open_component() as there,
        watching(there) as view,
        here.registered(phantom, 1.5) as registration,
    ):
        await view.until_ids("one")
        await registration.update(healthy=False)
        await view.until(lambda view: not view.instances["one"].healthy)
        await there.report_dead(phantom)
        await view.until_ids()
        await view.until_ids("one")
        assert view.instances["one"] == replace(phantom, healthy=False)


# Listing.


async def test_instances_of_one_namespace_or_all(open_component: Opener) -> None:
    """The list is of all apps, of one namespace when one is named."""
    some = [instance("a"), instance("b", "stock"), instance("c", namespace="prod")]
    async with open_component() as here, open_component() as there, AsyncExitStack() as stack:
        for one in some:
            await stack.enter_async_context(here.registered(one, 30.0))
        assert {one.id for one in await there.instances()} == {"a", "b", "c"}
        assert {one.id for one in await there.instances("default")} == {"a", "b"}
        assert {one.id for one in await there.instances("prod")} == {"c"}
        assert await there.instances("empty") == ()


async def test_thousands_of_instances_are_listed_and_watched(open_component: Opener) -> None:
    """A large app arrives whole in one snapshot."""
    async with open_component() as here, open_component() as there, AsyncExitStack() as stack:
        entering = [
            stack.enter_async_context(here.registered(instance(f"i{number}"), 60.0))
            for number in range(1500)
        ]
        await asyncio.gather(*entering)
        expected = {f"i{number}" for number in range(1500)}
        assert {one.id for one in await there.instances()} == expected
        async with watching(there) as view:
            assert view.instances.keys() == expected
            assert len(view.changes) == 1


# Watching.


async def test_snapshot_then_changes_in_order(open_component: Opener) -> None:
    """The first word is the whole truth, and each later one follows from it."""
    async with open_component() as here, open_component() as there:
        async with here.registered(instance("one"), 30.0), watching(there) as view:
            assert view.changes == [Snapshot((instance("one"),))]
            async with here.registered(instance("two"), 30.0) as registration:
                await view.until_ids("one", "two")
                await registration.update(healthy=False)
                await view.until(lambda view: not view.instances["two"].healthy)
            await view.until_ids("one")
        assert view.changes[1:] == [
            Put(instance("two")),
            Put(replace(instance("two"), healthy=False)),
            Gone("two"),
        ]


async def test_watch_hears_of_its_app_and_namespace_only(open_component: Opener) -> None:
    """Other apps, and the same app in another namespace, make no sound."""
    async with open_component() as here, open_component() as there, watching(there) as view:
        async with (
            watching(there, "stock") as other,
            here.registered(instance("b", "stock"), 30.0),
            here.registered(instance("c", namespace="prod"), 30.0),
            here.registered(instance("d", "orders-2"), 30.0),
        ):
            await other.until_ids("b")
            async with here.registered(instance("a"), 30.0):
                await view.until_ids("a")
        await view.until_ids()
        assert view.changes == [Snapshot(()), Put(instance("a")), Gone("a")]


async def test_every_watcher_of_an_app_is_told(open_component: Opener) -> None:
    """Two watches of one component do not take changes from each other, and end alone."""
    async with open_component() as here, open_component() as there, watching(there) as first:
        async with watching(there) as second, here.registered(instance("one"), 30.0):
            await first.until_ids("one")
            await second.until_ids("one")
        async with here.registered(instance("two"), 30.0):
            await first.until_ids("two")
        assert "two" not in second.instances


async def test_own_registrations_are_watched_too(open_component: Opener) -> None:
    """A runtime sees the instance it registered itself."""
    async with open_component() as here, watching(here) as view:
        async with here.registered(instance("one"), 30.0):
            await view.until_ids("one")
        await view.until_ids()


async def test_closed_iterator_is_over(open_component: Opener) -> None:
    """Closing a watch ends it, and a new one starts with a snapshot."""
    async with open_component() as registry:
        changes = _watch(registry)
        assert await anext(changes) == Snapshot(())
        await changes.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(changes)
        async with registry.registered(instance("one"), 30.0), watching(registry) as view:
            assert view.changes == [Snapshot((instance("one"),))]


async def test_slow_watcher_is_told_the_truth(open_component: Opener) -> None:
    """A watcher that stops reading hears less, and what it hears adds up to the present."""
    source = random.Random(5)
    async with (
        open_component() as here,
        open_component() as there,
        aclosing(_watch(there)) as changes,
        AsyncExitStack() as all_left,
    ):
        view = View()
        view.take(await anext(changes))
        stacks: dict[str, tuple[AsyncExitStack, Any]] = {}
        for number in range(2000):
            identifier = f"i{source.randrange(8)}-{number // 500}"
            if identifier not in stacks:
                stack = await all_left.enter_async_context(AsyncExitStack())
                made = here.registered(instance(identifier), 60.0)
                stacks[identifier] = stack, await stack.enter_async_context(made)
            elif source.random() < 0.5:
                await stacks[identifier][1].update(healthy=source.random() < 0.5)
            else:
                await stacks.pop(identifier)[0].aclose()
            if source.random() < 0.005:
                view.take(await anext(changes))
        truth = {one.id: one for one in await there.instances()}
        heard = len(view.changes)
        async with asyncio.timeout(DEADLINE):
            while view.instances != truth:
                view.take(await anext(changes))
        assert len(view.changes) - heard < 200


# Reports.


async def test_report_of_a_dead_process_removes_its_instance(open_component: Opener) -> None:
    """With proof that the process is gone, nobody waits for the lease."""
    phantom = instance("one", pid=ended_process())
    async with (
        open_component() as here,
        open_component() as there,
        watching(here) as view,
        here.registered(phantom, 60.0),
    ):
        await view.until_ids("one")
        await there.report_dead(phantom)
        assert await here.instances() == ()
        await view.until_ids()


@pytest.mark.parametrize(
    "fields",
    [{}, {"pid": 4_194_303, "node": "elsewhere"}, {"pid": 0}],
    ids=["alive", "other-node", "no-pid"],
)
async def test_report_without_proof_changes_nothing(
    open_component: Opener, fields: Mapping[str, Any]
) -> None:
    """A broken connection alone is no proof: the lease decides."""
    suspect = instance("one", **fields)
    async with open_component() as here, open_component() as there, watching(there) as view:
        async with here.registered(suspect, 60.0):
            await view.until_ids("one")
            await there.report_dead(suspect)
            await there.report_dead(instance("unknown", **fields))
            assert await there.instances() == (suspect,)
        await view.until_ids()
        assert view.changes == [Snapshot(()), Put(suspect), Gone("one")]


# Between processes.


class Peer:
    """A process that registers and watches on command; see ``registry_peer``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._seen = 0

    async def say(self, do: str, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        await self.process.stdin.drain()

    async def hear(self, event: str, **fields: Any) -> dict[str, Any]:
        """Return the next event with these fields, however many others come before it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while True:
                while self._seen < len(self.events):
                    said = self.events[self._seen]
                    self._seen += 1
                    if said["event"] == event and fields.items() <= said.items():
                        return said
                line = await self.process.stdout.readline()
                assert line, f"the peer ended before {event} {fields}"
                self.events.append(json.loads(line))

    async def register(self, identifier: str, lease: float, app_id: str = "orders") -> float:
        """Register, and return when that began."""
        await self.say("register", id=identifier, app_id=app_id, lease=lease)
        return float((await self.hear("registered", id=identifier))["begun"])

    async def watch(self) -> list[str]:
        await self.say("watch", app_id="orders")
        ids: list[str] = (await self.hear("snapshot"))["ids"]
        return ids


@pytest.fixture
def start_peer(
    subject: Subject, component_settings: Mapping[str, Any], home: Path
) -> Callable[[], Any]:
    """Start a peer of the component under test; it is killed when its context ends."""

    @asynccontextmanager
    async def started() -> AsyncIterator[Peer]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "tests.conformance.registry_peer"),
            *(subject.type_name, str(home), json.dumps(dict(component_settings))),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        peer = Peer(process)
        try:
            await peer.hear("ready")
            yield peer
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    return started


@pytest.mark.promises("shared")
async def test_changes_reach_other_processes_quickly(start_peer: Callable[[], Any]) -> None:
    """From the start of a registration, a change or a leave to another process: under 0.5 s."""
    delays: list[float] = []
    async with start_peer() as registrant, start_peer() as watcher:
        assert await watcher.watch() == []
        for number in range(30):
            identifier = f"i{number}"
            begun = await registrant.register(identifier, 30.0)
            delays.append((await watcher.hear("put", id=identifier))["at"] - begun)
            await registrant.say("update", id=identifier, healthy=False)
            begun = (await registrant.hear("updated", id=identifier))["begun"]
            delays.append((await watcher.hear("put", id=identifier, healthy=False))["at"] - begun)
            await registrant.say("leave", id=identifier)
            begun = (await registrant.hear("left", id=identifier))["begun"]
            delays.append((await watcher.hear("gone", id=identifier))["at"] - begun)
    assert max(delays) < 0.5


@pytest.mark.promises("shared")
async def test_process_that_ends_cleanly_is_gone_at_once(
    open_component: Opener, start_peer: Callable[[], Any]
) -> None:
    """A clean exit does not wait for the lease."""
    async with open_component() as registry, watching(registry) as view, start_peer() as peer:
        await peer.register("one", 60.0)
        await view.until_ids("one")
        peer.process.stdin.close()
        await view.until_ids()
        assert await peer.process.wait() == 0


@pytest.mark.promises("shared")
async def test_killed_process_is_gone_within_its_lease(
    open_component: Opener, start_peer: Callable[[], Any]
) -> None:
    """After SIGKILL the lease removes the instance everywhere, and not before half of it."""
    lease = 1.5
    async with (
        open_component() as registry,
        watching(registry) as view,
        start_peer() as watcher,
        start_peer() as victim,
    ):
        await victim.register("one", lease)
        await watcher.watch()
        await view.until_ids("one")
        victim.process.kill()
        killed = time.monotonic()
        await view.until_ids()
        waited = time.monotonic() - killed
        elsewhere = (await watcher.hear("gone", id="one"))["at"] - killed
        assert await registry.instances() == ()
    assert lease / 2 < waited < lease + 0.5
    assert lease / 2 < elsewhere < lease + 0.5


@pytest.mark.promises("shared")
async def test_reported_kill_is_gone_everywhere_at_once(
    open_component: Opener, start_peer: Callable[[], Any]
) -> None:
    """One process that saw the connection break spares all others the lease."""
    async with open_component() as registry, start_peer() as watcher, start_peer() as victim:
        await victim.register("one", 60.0)
        assert await watcher.watch() == ["one"]
        (registered,) = await registry.instances()
        victim.process.kill()
        await victim.process.wait()
        reported = time.monotonic()
        await registry.report_dead(registered)
        assert (await watcher.hear("gone", id="one"))["at"] - reported < 0.5


@pytest.mark.promises("shared")
async def test_stopped_registrant_leaves_and_comes_back(
    open_component: Opener, start_peer: Callable[[], Any]
) -> None:
    """A process that hangs longer than its lease is gone, and registers again when it runs."""
    async with open_component() as registry, watching(registry) as view, start_peer() as peer:
        await peer.register("one", 1.0)
        await view.until_ids("one")
        peer.process.send_signal(signal.SIGSTOP)
        await view.until_ids()
        peer.process.send_signal(signal.SIGCONT)
        await view.until_ids("one")


@pytest.mark.promises("shared")
async def test_stopped_watcher_catches_up(
    open_component: Opener, start_peer: Callable[[], Any]
) -> None:
    """A process that could not hear anything knows the truth as soon as it runs again."""
    async with open_component() as registry, start_peer() as watcher, AsyncExitStack() as stack:
        for number in range(20):
            leaving = registry.registered(instance(f"old{number}"), 30.0)
            await stack.enter_async_context(leaving)
        assert len(await watcher.watch()) == 20
        watcher.process.send_signal(signal.SIGSTOP)
        await stack.aclose()
        for number in range(300):
            async with registry.registered(instance(f"mid{number}"), 30.0):
                pass
        async with registry.registered(instance("new"), 30.0):
            watcher.process.send_signal(signal.SIGCONT)
            await watcher.hear("put", id="new")
        await watcher.hear("gone", id="new")
        known: set[str] = set()
        for event in watcher.events:
            if event["event"] == "snapshot":
                known = set(event["ids"])
            elif event["event"] == "put":
                known.add(event["id"])
            elif event["event"] == "gone":
                known.remove(event["id"])
        assert known == set()


@pytest.mark.promises("shared")
async def test_processes_see_each_other(start_peer: Callable[[], Any]) -> None:
    """Registrants in several processes end up with one and the same picture."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(start_peer()) for _ in range(4)]
        for peer in peers:
            await peer.watch()
        for number in range(10):
            for rank, peer in enumerate(peers):
                await peer.say("register", id=f"p{rank}-{number}", app_id="orders", lease=30.0)
        expected = {f"p{rank}-{number}" for rank in range(4) for number in range(10)}
        for peer in peers:
            for identifier in sorted(expected):
                if not any(
                    event["event"] == "put" and event["id"] == identifier for event in peer.events
                ):
                    await peer.hear("put", id=identifier)


CRASHER = """
import asyncio, os, random, signal, sys, time
from tests.conformance.registry_peer import crash_forever
for _ in range(int(sys.argv[4])):
    child = os.fork()
    if child == 0:
        asyncio.run(crash_forever(*sys.argv[1:4]))
    time.sleep(random.random() * 0.06)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.promises("shared")
async def test_kills_at_random_moments_need_no_repair(
    subject: Subject,
    component_settings: Mapping[str, Any],
    home: Path,
    open_component: Opener,
) -> None:
    """After fifty processes were killed at any moment, the next one opens and sees the truth."""
    arguments = (subject.type_name, str(home), json.dumps(dict(component_settings)), "50")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CRASHER, *arguments), cwd=ROOT
    )
    assert await process.wait() == 0
    async with (
        open_component() as registry,
        watching(registry) as view,
        registry.registered(instance("after"), 5.0),
    ):
        await view.until_ids("after")
        assert [one.id for one in await registry.instances()] == ["after"]
