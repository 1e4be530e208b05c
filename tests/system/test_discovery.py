"""Instances come, share the calls, and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import time
from collections import Counter

import pytest
from tests.support.conditions import eventually
from tests.support.runtimes import Machine, Runtime, poll
from tests.support.scripted_app import AppConnection, ScriptedApp, answering, app_running

from pillion.call import Identity
from pillion.home import Home
from pillion.identity.authority import Authority
from pillion.identity.tls import MeshTls

pytestmark = pytest.mark.anyio


def named(name: str):
    """Return a script that answers with a name."""
    return answering(lambda _asked: (200, name.encode()))


async def who(caller: Runtime, method: str = "GET") -> str:
    """Call ``callee`` and return which instance answered."""
    reply = await caller.invoke("callee", "x", method=method)
    assert reply.status == 200, reply
    return reply.body.decode()


@pytest.mark.parametrize("balancer", ["peak-ewma", "round-robin", "random"])
async def test_instances_share_the_calls(machine: Machine, balancer: str) -> None:
    """Each of three instances gets a fair part under every balancer."""
    async with (
        app_running(named("a")) as a,
        app_running(named("b")) as b,
        app_running(named("c")) as c,
    ):
        for app in (a, b, c):
            await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller", "--load-balancer", balancer)
        seen = Counter([await who(caller) for _ in range(90)])
    assert sum(seen.values()) == 90
    assert set(seen) == {"a", "b", "c"}
    if balancer == "round-robin":
        assert set(seen.values()) == {30}


async def test_a_new_instance_is_called_soon(machine: Machine) -> None:
    """An instance that registers while calls go on gets its share at once."""
    async with app_running(named("old")) as old, app_running(named("new")) as new:
        await machine.runtime("callee", app_port=old.port)
        caller = await machine.runtime("caller", "--load-balancer", "round-robin")
        assert await who(caller) == "old"
        await machine.runtime("callee", app_port=new.port)
        assert {await who(caller) for _ in range(4)} == {"old", "new"}


async def test_a_clean_exit_takes_no_call_with_it(machine: Machine) -> None:
    """While one of two instances is stopped under load, no call fails, POST included."""
    async with app_running(named("stays")) as stays, app_running(named("goes")) as goes:
        await machine.runtime("callee", app_port=stays.port)
        going = await machine.runtime("callee", app_port=goes.port)
        caller = await machine.runtime("caller")
        stop = asyncio.Event()
        answers: Counter[str] = Counter()

        async def load() -> None:
            while not stop.is_set():
                answers[await who(caller, "POST")] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            await eventually(lambda: answers["goes"] > 5, "both are called")
            assert await going.stop() == 0
            gone = answers["goes"]
            await eventually(lambda: answers["stays"] > 50, "the other goes on")
            stop.set()
        assert answers["goes"] == gone


async def test_an_instance_that_drains_is_left_at_once(machine: Machine) -> None:
    """While a last call is in flight on it, nobody finds an instance that was told to stop."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(connection: AppConnection) -> None:
        await connection.request()
        asked.set()
        await release.wait()
        await connection.reply(200, b"last")

    async with app_running(slow) as app:
        going = await machine.runtime("callee", app_port=app.port)
        caller, other = await machine.runtime("caller"), await machine.runtime("other")
        async with asyncio.TaskGroup() as group:
            last = group.create_task(caller.invoke("callee", "x", method="POST"))
            await asyncio.wait_for(asked.wait(), 5.0)
            going.command.send(signal.SIGTERM)
            await eventually(lambda: "draining" in going.command.err, "the drain")
            began = time.monotonic()

            async def unknown() -> bool:
                reply = await other.invoke("callee", "x")
                return reply.header("x-pillion-reason") == b"no-instance"

            await poll(unknown, "it is left")
            # The call itself waits half a second for an instance to appear.
            assert time.monotonic() - began < 1.0
            release.set()
        assert last.result().body == b"last"
        assert await asyncio.to_thread(going.command.wait, 10.0) == 0


async def test_a_killed_instance_costs_no_idempotent_call(machine: Machine) -> None:
    """SIGKILL under load: calls in flight are tried elsewhere, and it is left at once."""
    async with app_running(named("stays")) as stays, app_running(named("dies")) as dies:
        await machine.runtime("callee", app_port=stays.port)
        dying = await machine.runtime("callee", app_port=dies.port)
        caller = await machine.runtime("caller")
        stop = asyncio.Event()
        answers: Counter[str] = Counter()

        async def load() -> None:
            while not stop.is_set():
                answers[await who(caller)] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            await eventually(lambda: answers["dies"] > 20, "both are called")
            dying.kill()
            before = answers["stays"]
            await eventually(lambda: answers["stays"] > before + 100, "the other goes on")
            stop.set()
        assert await caller.metric("pillion_retries_exhausted_total") == 0


async def test_a_call_in_flight_to_a_dead_instance_is_tried_on_another(machine: Machine) -> None:
    """GET goes elsewhere; POST, which may have done its work, is an error that says so."""
    asked = asyncio.Event()

    async def hang(connection: AppConnection) -> None:
        await connection.request()
        asked.set()
        await connection.until_gone()

    async with app_running(hang) as stuck:
        for method, status in (("GET", 200), ("POST", 500)):
            asked.clear()
            dying = await machine.runtime("callee", app_port=stuck.port)
            caller = await machine.runtime("caller")
            async with asyncio.TaskGroup() as group:
                call = group.create_task(caller.invoke("callee", "x", method=method))
                await asyncio.wait_for(asked.wait(), 5.0)
                async with app_running(named("other")) as app:
                    other = await machine.runtime("callee", app_port=app.port)
                    dying.kill()
                    reply = await asyncio.wait_for(asyncio.shield(call), 5.0)
                    await other.stop()
            assert reply.status == status, reply
            if method == "POST":
                assert reply.header("x-pillion-reason") == b"connection-broken"
            await caller.stop()


async def test_a_killed_instance_is_forgotten_within_its_lease(machine: Machine) -> None:
    """A caller without a connection to it stops finding a killed instance when its lease ends."""
    async with app_running(named("a")) as app:
        dying = await machine.runtime("callee", "--lease", "2s", app_port=app.port)
        dying.kill()
        await asyncio.to_thread(dying.command.wait)
        caller = await machine.runtime("caller")
        began = time.monotonic()

        async def unknown() -> bool:
            reply = await caller.invoke("callee", "x")
            return reply.header("x-pillion-reason") == b"no-instance"

        await poll(unknown, "the instance is forgotten", 6.0)
        assert time.monotonic() - began < 4.0


async def test_namespaces_and_homes_do_not_meet(
    machine: Machine, echo: ScriptedApp, tmp_path
) -> None:
    """The same app id in another namespace is another app; another home is another world."""
    await machine.runtime("callee", "--namespace", "blue", app_port=echo.port)
    green = await machine.runtime("caller", "--namespace", "green")
    assert (await green.invoke("callee", "x")).status == 500
    crossing = await green.invoke("callee.blue", "x")
    headers = dict(json.loads(crossing.body)["headers"])
    assert headers["dapr-caller-namespace"] == "green"
    elsewhere = Machine(tmp_path / "elsewhere")
    try:
        stranger = await elsewhere.runtime("stranger", "--namespace", "blue")
        assert (await stranger.invoke("callee", "x")).status == 500
    finally:
        await elsewhere.close()


async def test_another_authority_is_refused_and_counted(
    machine: Machine, echo: ScriptedApp, tmp_path
) -> None:
    """Whoever shows a certificate of another home gets nothing: one line, one count."""
    callee = await machine.runtime("callee", app_port=echo.port)

    def stranger() -> MeshTls:
        authority = Authority.open(Home.locate(tmp_path / "elsewhere"), "public")
        identity = Identity("public", "default", "caller")
        credentials = authority.issue(identity, lifetime=60.0)
        # It trusts our authority, so only our side can refuse.
        ours = Authority.open(Home.locate(machine.home), "public")
        return MeshTls(identity, credentials, authority.roots + ours.roots)

    tls = await asyncio.to_thread(stranger)
    before = await callee.metric("pillion_mesh_refused_total", direction="in")
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", callee.run_file.mesh_port, ssl=tls.client
        )
        # TLS 1.3: the client learns of its refusal with the first read.
        assert await asyncio.wait_for(reader.read(), 5.0) == b""
        writer.close()

    async def counted() -> bool:
        refused = await callee.metric("pillion_mesh_refused_total", direction="in")
        return refused == before + 1

    await poll(counted, "the refusal is counted")
    lines = [line for line in callee.command.err.splitlines() if "refused" in line]
    assert len(lines) == 1, callee.command.err
