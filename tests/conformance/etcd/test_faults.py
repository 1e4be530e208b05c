"""The etcd client when servers die, freeze, compact, ask for passwords or speak TLS."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support import etcd_server as etcd
from tests.support.certificates import authority
from tests.support.conditions import eventually

from pillion.errors import Failure, Invalid, NotAllowed, Unavailable
from pillion.kinds.settings import settings_of
from pillion_components._etcd import connected
from pillion_components._etcd.model import Events, Snapshot, prefix_end
from pillion_components._etcd.settings import ConnectionSettings

pytestmark = pytest.mark.anyio

ROOT = "root:secret-of-root"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[etcd.EtcdServer]:
    """A server that the test may break."""
    with etcd.running(tmp_path / "etcd") as one:
        yield one


@asynccontextmanager
async def client_of(settings: dict[str, str], **more: str) -> AsyncIterator[Any]:
    given = settings_of(ConnectionSettings, {**settings, **more}, "tested")
    async with connected(given, "tested") as client:
        yield client


class Followed:
    """What a watch told: the present keys, and every event."""

    def __init__(self) -> None:
        self.present: dict[bytes, bytes] = {}
        self.events: list[tuple[bytes, int]] = []
        self.snapshots = 0

    async def follow(self, client: Any, prefix: bytes) -> None:
        async with aclosing(client.watch(prefix, prefix_end(prefix))) as news:
            async for one in news:
                if isinstance(one, Snapshot):
                    self.snapshots += 1
                    self.present = {item.key: item.value for item in one.items}
                    continue
                assert isinstance(one, Events)
                for event in one.events:
                    self.events.append((event.item.value, event.item.mod_revision))
                    if event.deleted:
                        del self.present[event.item.key]
                    else:
                        self.present[event.item.key] = event.item.value


@asynccontextmanager
async def following(client: Any, prefix: bytes) -> AsyncIterator[Followed]:
    followed = Followed()
    task = client.spawn(followed.follow(client, prefix))
    await eventually(lambda: followed.snapshots, "the snapshot")
    yield followed
    task.cancel()
    await asyncio.wait({task})


async def in_thread(function: Any, *arguments: Any) -> None:
    """Let the loop run while a server is started."""
    await asyncio.to_thread(function, *arguments)


async def until_served(client: Any) -> None:
    """Wait until the cluster answers again."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return await client.range(b"/up")
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_no_event_is_lost_when_the_server_is_killed(server: etcd.EtcdServer) -> None:
    """A watch over kill -9 and a restart, twice, tells each acknowledged write once, in order."""
    async with (
        client_of(server.settings) as client,
        client_of(server.settings) as writer,
        following(client, b"/w/") as followed,
    ):
        written = []
        for phase in range(3):
            for number in range(40):
                revision = await writer.put(b"/w/key", b"%d-%d" % (phase, number))
                written.append((b"%d-%d" % (phase, number), revision))
            if phase < 2:
                await in_thread(server.restart)
                await until_served(writer)
        await eventually(lambda: len(followed.events) >= len(written), "all events", 15)
    assert followed.events == written
    assert followed.snapshots == 1


class Wire:
    """A relay between the client and a server, which can be cut and stalled."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self.address = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.break_off()
            await server.wait_closed()
            await eventually(lambda: not self._pairs, "the end of the relay")

    def break_off(self) -> None:
        """Break every connection; a stalled one ends too."""
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()
        self._flowing.set()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Have no connection, and take none."""
        self._cut = True
        self.break_off()
        try:
            yield
        finally:
            self._cut = False

    def stall(self) -> None:
        """Let the connections there are carry nothing more; new ones do."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        pair = (writer, there_writer)
        self._pairs.add(pair)
        flowing = self._flowing
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, there_writer, flowing))
                group.create_task(self._carry(there_reader, writer, flowing))
        finally:
            self._pairs.discard(pair)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not flowing.is_set():
                    await reader.read()  # until it is broken off
                    break
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_events_lost_to_a_compaction_become_a_snapshot(server: etcd.EtcdServer) -> None:
    """A watch that was away while its next revision was compacted reads everything anew."""
    async with (
        Wire(server.port).open() as wire,
        client_of({"endpoints": wire.address}) as client,
        client_of(server.settings) as writer,
    ):
        await writer.put(b"/c/gone", b"x")
        async with following(client, b"/c/") as followed:
            with wire.cut():
                await writer.delete(b"/c/gone")
                revision = await writer.put(b"/c/new", b"y")
                await in_thread(server.ctl, "compact", str(revision))
            await eventually(lambda: followed.present == {b"/c/new": b"y"}, "the truth", 15)
            assert followed.snapshots == 2
            await writer.put(b"/c/later", b"z")
            await eventually(lambda: b"/c/later" in followed.present, "later events", 15)


async def test_progress_saves_reading_anew(tmp_path: Path) -> None:
    """A quiet watch moves on with the cluster, so that a compaction far behind costs nothing."""
    flag = "--experimental-watch-progress-notify-interval"
    shown = subprocess.run([str(etcd.program("etcd")), "--help"], capture_output=True, text=True)
    if flag not in shown.stdout + shown.stderr:
        pytest.skip("this etcd sends progress every ten minutes only")
    async with AsyncExitStack() as stack:
        server = stack.enter_context(etcd.running(tmp_path / "etcd", flags=[f"{flag}=100ms"]))
        wire = await stack.enter_async_context(Wire(server.port).open())
        client = await stack.enter_async_context(client_of({"endpoints": wire.address}))
        writer = await stack.enter_async_context(client_of(server.settings))
        followed = await stack.enter_async_context(following(client, b"/p/"))
        await writer.put(b"/p/first", b"x")
        await eventually(lambda: followed.events, "the first event")
        for number in range(10):
            revision = await writer.put(b"/elsewhere", b"%d" % number)
        # Two signs of progress on a later stream are at least one on the first.
        from pillion_components._etcd.watch import _answers  # needs grpcio

        async with asyncio.timeout(10), aclosing(_answers(client, b"/p/", b"", 0)) as answers:
            seen = 0
            while seen < 2:
                answer = await anext(answers)
                seen += not answer.created and answer.header.revision >= revision
        with wire.cut():
            await in_thread(server.ctl, "compact", str(revision))
        await writer.put(b"/p/second", b"y")
        await eventually(lambda: len(followed.events) == 2, "the second event", 15)
        assert followed.snapshots == 1


@pytest.mark.slow
async def test_watch_leaves_a_connection_that_carries_nothing(server: etcd.EtcdServer) -> None:
    """A connection that is open but dead is found by pings, and no event is lost."""
    async with (
        Wire(server.port).open() as wire,
        client_of({"endpoints": wire.address}) as client,
        client_of(server.settings) as writer,
        following(client, b"/s/") as followed,
    ):
        await writer.put(b"/s/first", b"x")
        await eventually(lambda: followed.events, "the first event")
        wire.stall()
        await writer.put(b"/s/second", b"y")
        await eventually(lambda: len(followed.events) == 2, "the second event", 30)
        assert followed.snapshots == 1


async def test_frozen_server_costs_one_timeout(server: etcd.EtcdServer) -> None:
    """A server that accepts and never answers makes each call fail by its deadline."""
    async with client_of(server.settings, timeout="400ms") as client:
        await client.put(b"/f", b"x")
        with server.frozen():
            for call in (client.range(b"/f"), client.put(b"/f", b"y"), client.grant(5)):
                began = time.monotonic()
                with pytest.raises(Unavailable, match="in time"):
                    await call
                assert time.monotonic() - began < 1.2
        await until_served(client)


async def test_dead_server_is_told_at_once(server: etcd.EtcdServer) -> None:
    """Calls to a server that is down fail fast; after its start the same client works again."""
    async with client_of(server.settings) as client:
        await client.put(b"/d", b"x")
        server.kill()
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await client.put(b"/d", b"y")
            assert time.monotonic() - began < 1.5
        await in_thread(server.start)
        await until_served(client)
        assert (await client.range(b"/d")).items[0].value == b"x"


async def test_opening_needs_no_server() -> None:
    """A client opens while nothing listens, and says so at the first operation."""
    (port,) = etcd.free_ports(1)
    async with client_of({"endpoints": f"127.0.0.1:{port}"}) as client:
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}") as caught:
            await client.put(b"/x", b"x")
        assert not caught.value.reached


async def test_closed_client_refuses(server: etcd.EtcdServer) -> None:
    """Calls under way when the client closes, and later ones, fail with our failure."""
    async with client_of(server.settings) as client:
        await client.range(b"/x")
        with server.frozen():
            waiting = asyncio.gather(
                *(client.range(b"/x") for _ in range(3)), return_exceptions=True
            )
            await asyncio.sleep(0.05)
            await client.aclose()
            assert [type(one) for one in await waiting] == [Unavailable] * 3
        with pytest.raises(Unavailable, match="closed"):
            await client.range(b"/x")


# Several endpoints.


async def test_dead_endpoint_is_passed_over(server: etcd.EtcdServer) -> None:
    """With a dead member first in the list, writes and watches work, and soon at full speed."""
    (dead,) = etcd.free_ports(1)
    async with client_of({"endpoints": f"127.0.0.1:{dead},{server.address}"}) as client:
        await client.put(b"/e/1", b"x")
        async with following(client, b"/e/") as followed:
            await client.put(b"/e/2", b"y")
            await eventually(lambda: len(followed.present) == 2, "the event")


async def test_frozen_endpoint_is_left_within_a_read(
    server: etcd.EtcdServer, tmp_path: Path
) -> None:
    """A read that one member does not answer is answered by the other, within its deadline."""
    with etcd.running(tmp_path / "other") as other:
        endpoints = f"{server.address},{other.address}"
        async with client_of({"endpoints": endpoints}, timeout="1s") as client:
            await client.range(b"/x")
            with server.frozen():
                began = time.monotonic()
                await client.range(b"/x")
                assert 0.3 < time.monotonic() - began < 1.0
                await client.put(b"/x", b"the frozen one is not asked again")


async def test_cluster_survives_each_of_its_members(tmp_path: Path) -> None:
    """Kill one of three after the other: acknowledged writes stay, and a watch has them all."""
    with etcd.running_cluster(tmp_path) as members:
        endpoints = ",".join(member.address for member in members)
        async with client_of({"endpoints": endpoints}) as client:
            async with following(client, b"/m/") as followed:
                acknowledged = set()
                for round_, member in enumerate(members):
                    member.kill()
                    for number in range(20):
                        value = b"%d-%d" % (round_, number)
                        for _ in range(100):
                            try:
                                await client.put(b"/m/" + value, value)
                            except Unavailable:
                                await asyncio.sleep(0.05)
                            else:
                                acknowledged.add(value)
                                break
                    await in_thread(member.start)
                assert len(acknowledged) == 60
                await eventually(
                    lambda: acknowledged <= set(followed.present.values()), "all events", 15
                )
            found = await client.snapshot(b"/m/", prefix_end(b"/m/"))
            assert {item.value for item in found.items} == acknowledged


# Passwords and certificates.


def require_passwords(server: etcd.EtcdServer) -> None:
    """Turn authentication on, with a user who may use keys below ``/mine/`` only."""
    server.ctl("user", "add", ROOT)
    server.ctl("user", "grant-role", "root", "root")
    server.ctl("user", "add", "app:secret-of-app")
    server.ctl("role", "add", "app")
    server.ctl("role", "grant-permission", "--prefix", "app", "readwrite", "/mine/")
    server.ctl("user", "grant-role", "app", "app")
    server.ctl("auth", "enable")


async def test_password_is_asked_and_tokens_are_renewed(server: etcd.EtcdServer) -> None:
    """A user reaches their keys; tokens that a restart made void are replaced unseen."""
    login = {"user": "app", "password": "secret-of-app"}
    async with client_of(server.settings, **login) as client:
        await client.put(b"/mine/before", b"authentication was off")
        await in_thread(require_passwords, server)
        await asyncio.gather(*(client.put(b"/mine/%d" % number, b"x") for number in range(20)))
        async with following(client, b"/mine/") as followed:
            await in_thread(server.restart)
            await until_served_as(client, b"/mine/up")
            await client.put(b"/mine/after", b"y")
            await eventually(lambda: b"/mine/after" in followed.present, "the event", 15)


async def until_served_as(client: Any, key: bytes) -> None:
    """Wait until the cluster answers a user again."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return await client.range(key)
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_what_a_user_may_not_do_is_refused(server: etcd.EtcdServer) -> None:
    """No user, a wrong password and a foreign key are refused, without the password in the text."""
    await in_thread(require_passwords, server)
    cases: list[tuple[dict[str, str], bytes]] = [
        ({}, b"/mine/x"),
        ({"user": "app", "password": "wrong-secret"}, b"/mine/x"),
        ({"user": "nobody", "password": "wrong-secret"}, b"/mine/x"),
        ({"user": "app", "password": "secret-of-app"}, b"/other/x"),
    ]
    for login, key in cases:
        async with client_of(server.settings, **login) as client:
            for call in (client.range(key), client.put(key, b"x"), anext(client.watch(key))):
                with pytest.raises(NotAllowed, match="component tested") as caught:
                    await call
                assert "secret" not in str(caught.value)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[etcd.EtcdServer]:
    """A server that speaks TLS and asks for client certificates."""
    files = authority(tmp_path / "tls")
    tls = etcd.Tls(
        ca=files.ca,
        cert=files.cert,
        key=files.key,
        client_cert=files.client_cert,
        client_key=files.client_key,
    )
    with etcd.running(tmp_path / "etcd", tls=tls) as server:
        yield server


async def test_certificates_are_checked_both_ways(
    tls_server: etcd.EtcdServer, tmp_path: Path
) -> None:
    """The right certificates connect; none, plain text and a foreign authority do not."""
    async with client_of(tls_server.settings) as client:
        await client.put(b"/t", b"x")
        async with following(client, b"/t") as followed:
            assert followed.present == {b"/t": b"x"}
    good = tls_server.settings
    bare = {key: good[key] for key in ("endpoints", "tlsEnable", "ca")}
    strange = {**good, "ca": authority(tmp_path / "strange").ca.read_text()}
    for settings in (bare, {"endpoints": good["endpoints"]}, strange):
        async with client_of(settings, timeout="2s") as client:
            with pytest.raises(Unavailable):
                await client.put(b"/t", b"x")


async def test_certificate_names_the_user(tls_server: etcd.EtcdServer) -> None:
    """With authentication on, the common name of a client certificate is its user."""
    await in_thread(tls_server.ctl, "user", "add", ROOT)
    await in_thread(tls_server.ctl, "user", "grant-role", "root", "root")
    await in_thread(tls_server.ctl, "auth", "enable")
    async with client_of(tls_server.settings) as client:
        assert await client.put(b"/t", b"x")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "endpoints is missing"),
        ({"endpoints": "a:b"}, "endpoints must be addresses"),
        ({"endpoints": " , "}, "endpoints must be at least one"),
        ({"endpoints": "https://a"}, "set tlsEnable to true"),
        ({"endpoints": "a", "ca": "-----BEGIN X"}, "need tlsEnable"),
        ({"endpoints": "a", "tlsEnable": "true", "ca": "ca.pem"}, "PEM text itself"),
        ({"endpoints": "a", "tlsEnable": "true", "ca": "-----BEGIN X"}, "ca is not a certificate"),
        ({"endpoints": "a", "user": "me"}, "give both or neither"),
        ({"endpoints": "a", "timeout": "0s"}, "timeout must be a duration"),
        ({"endpoints": "a", "keyPrefix": "x"}, "did you mean"),
    ],
)
async def test_settings_that_cannot_work_are_refused(settings: dict[str, str], words: str) -> None:
    """A wrong setting is an error at the opening that names it."""
    with pytest.raises(Invalid, match=words):
        async with client_of(settings):
            pass


async def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    """A private key that is not the certificate's is an error at the opening, and is not shown."""
    one, other = authority(tmp_path / "one"), authority(tmp_path / "other")
    settings = {
        "endpoints": "a",
        "tlsEnable": "true",
        "cert": one.client_cert.read_text(),
        "key": other.client_key.read_text(),
    }
    with pytest.raises(Failure, match="do not belong together") as caught:
        async with client_of(settings):
            pass
    assert "PRIVATE" not in str(caught.value)
