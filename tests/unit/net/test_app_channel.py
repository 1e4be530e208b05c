"""The way to the app: what its requests carry, and when it gets none."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.conditions import consistently, eventually
from tests.support.scripted_app import ScriptedApp, answering, app_running

from pillion.body import BodyStream
from pillion.call import Call, Identity, Target
from pillion.errors import TimedOut, TooLarge, Unavailable
from pillion.net.app_channel import AppChannel
from pillion.options import AppHealthOptions, Options

pytestmark = pytest.mark.anyio

CALLER = Identity("public", "prod", "checkout")


def soon() -> float:
    return time.monotonic() + 10.0


class Channels:
    """Makes channels, and collects what they say of their app's health."""

    def __init__(self, wheel) -> None:
        self.wheel = wheel
        self.health: list[bool] = []
        self.made: list[AppChannel] = []

    def __call__(self, app: ScriptedApp | int, **options) -> AppChannel:
        port = app if isinstance(app, int) else app.port
        settings = Options(app_id="orders", app_port=port, **options)
        channel = AppChannel(settings, self.wheel, self.health.append)
        self.made.append(channel)
        return channel

    async def well(self, app: ScriptedApp | int, **options) -> AppChannel:
        """Make a channel to an app that is not probed."""
        channel = self(app, **options)
        await channel.watch_health()
        return channel


@pytest.fixture
async def channels(wheel):
    channels = Channels(wheel)
    yield channels
    for channel in channels.made:
        channel.close()
    await eventually(lambda: not any(channel._client.open_connections for channel in channels.made))


def calling(method=b"GET", path=b"/x", **attributes) -> Call:
    attributes.setdefault("deadline", soon())
    return Call(
        "invocation.receive", Target("app", "orders", "default"), method, path, **attributes
    )


# Calls.


async def asked(channels, call, **options):
    """Give a call to an app and return the request the app saw."""
    seen = []

    def answer(request):
        seen.append(request)
        return 200, b"ok"

    async with app_running(answering(answer)) as app:
        channel = await channels.well(app, **options)
        assert (await channel.call(call)).body == b"ok"
    return seen[0]


async def test_who_calls_whom(channels):
    """The caller's identity is its certificate's, and the callee's this runtime's own."""
    request = await asked(channels, calling(headers=[(b"X-A", b"1")], caller=CALLER))
    assert request.header("dapr-caller-app-id") == "checkout"
    assert request.header("dapr-caller-namespace") == "prod"
    assert request.header("dapr-callee-app-id") == "orders"
    assert request.header("x-a") == "1"
    assert request.header("dapr-api-token") is None


async def test_a_call_of_the_runtime_itself_has_no_caller(channels):
    """Nobody is named."""
    request = await asked(channels, calling())
    assert request.header("dapr-caller-app-id") is None
    assert request.header("dapr-callee-app-id") == "orders"


@pytest.mark.parametrize(
    "name",
    ["Dapr-Caller-App-Id", "dapr_caller_app_id", "dapr-caller-namespace", "dapr-callee-app-id",
     "Dapr-API-Token", "X-Pillion-Deadline-Ms", "Content-Length", "Transfer-Encoding", "Host",
     "Connection", "Upgrade", "TE", "Keep-Alive", "Expect"],
)  # fmt: skip
async def test_a_peer_cannot_say_what_is_ours_to_say(channels, name):
    """Who calls, and what frames the request: another runtime may send anything."""
    headers = [(name.encode(), b"99"), (b"X-A", b"1")]
    request = await asked(channels, calling(b"POST", headers=headers, body=b"b", caller=CALLER))
    assert "99" not in [value for _name, value in request.headers]
    assert request.header("dapr-caller-app-id") == "checkout"
    assert (request.header("x-a"), request.body) == ("1", b"b")
    assert request.header("host").startswith("127.0.0.1:")


async def test_the_apps_token(channels):
    """Sent on every call when there is one."""
    request = await asked(channels, calling(), app_api_token="t0ken")
    assert request.header("dapr-api-token") == "t0ken"


async def test_the_path_and_the_query(channels):
    """As they stand in the call."""
    request = await asked(channels, calling(b"PATCH", b"/a%20b/c", query=b"x=%2F&y"))
    assert (request.method, request.target) == ("PATCH", "/a%20b/c?x=%2F&y")
    assert (await asked(channels, calling(path=b"/"))).target == "/"


async def test_the_deadline_goes_on(channels):
    """In milliseconds from now; none for a call without one."""
    request = await asked(channels, calling(deadline=time.monotonic() + 5.0))
    assert 4000 < int(request.header("x-pillion-deadline-ms")) <= 5000
    request = await asked(channels, calling(deadline=math.inf))
    assert request.header("x-pillion-deadline-ms") is None


async def test_a_call_is_not_changed(channels):
    """What is added to the request is not added to the call, which may be tried again."""
    call = calling(headers=[(b"X-A", b"1")], caller=CALLER)
    await asked(channels, call)
    assert call.headers == [(b"X-A", b"1")]


async def test_the_reply_is_limited(channels):
    """By the same limit as requests."""
    async with app_running(answering(lambda _request: (200, b"x" * 1001))) as app:
        channel = await channels.well(app, max_body_size=1000)
        with pytest.raises(TooLarge):
            await channel.call(calling())


async def test_an_unwell_app_gets_no_calls(channels):
    """It is not even asked, and the body is let go."""
    abandoned = []
    async with app_running(answering(lambda _request: (200, b""))) as app:
        channel = channels(app)
        body = BodyStream(on_abandoned=lambda: abandoned.append(True))
        with pytest.raises(Unavailable, match="app is not in a healthy state") as refused:
            await channel.call(calling(b"POST", body=body))
        assert (refused.value.reason, refused.value.reached) == ("app-unhealthy", False)
        assert (app.opened, abandoned) == (0, [True])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A server certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone else")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, private, plain) + made.public_bytes(pem))
    return path


async def test_an_app_over_https_is_not_verified(channels, certificate):
    """It is beside us; its certificate may be its own, expired and of another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        channel = await channels.well(port, app_protocol="https")
        assert (await channel.call(calling())).body == b"secret"
        channel.close()
        await eventually(lambda: channel._client.open_connections == 0)


# The runtime's own questions.


async def test_the_runtime_asks_on_its_own_account(channels):
    """With its own headers only, and the answer whole."""
    seen = []

    def answer(request):
        seen.append(request)
        return 200, b"x" * 100_000

    async with app_running(answering(answer)) as app:
        channel = channels(app, app_api_token="t0ken")
        status, body = await channel.get(b"/dapr/config", [(b"X", b"1")], 5.0, 100_000)
        assert (status, len(body)) == (200, 100_000)
        assert [name.lower() for name, _ in seen[0].headers] == ["x", "host"]
        with pytest.raises(TooLarge):
            await channel.get(b"/dapr/config", [], 5.0, 99_999)


async def test_a_question_has_its_time(channels):
    """Head and body together."""

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.until_gone()

    async with app_running(script) as app:
        with pytest.raises(TimedOut):
            await channels(app).get(b"/", [], 0.05, 1000)


# Is it there?


async def test_waiting_for_the_port(channels):
    """For as long as it takes; the app is not asked anything."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    channel = channels(port)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(channel.wait_for_port())
        await consistently(lambda: not waiting.done() and not channel.port_open, seconds=0.15)
        app = ScriptedApp(answering(lambda _request: (200, b"")))
        app.port = port
        await app.start()
        await waiting
    assert channel.port_open
    assert not channel.healthy
    await app.stop()


# Is it well?


class Patient:
    """An app whose health a test decides."""

    def __init__(self) -> None:
        self.answer: int | None = 200
        self.requests = []

    async def __call__(self, connection) -> None:
        while True:
            self.requests.append(await connection.request())
            if self.answer is None:
                await connection.until_gone()
                return
            await connection.reply(self.answer, b"status")


def probing(**settings) -> AppHealthOptions:
    return AppHealthOptions(**{"interval": 0.03, "timeout": 0.02, "threshold": 3} | settings)


class Watch:
    """Watches an app's health for the length of a block."""

    def __init__(self, channel: AppChannel) -> None:
        self.channel = channel

    async def __aenter__(self) -> AppChannel:
        self.task = asyncio.get_running_loop().create_task(self.channel.watch_health())
        return self.channel

    async def __aexit__(self, *_exc) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_without_probes_it_is_well_at_once(channels):
    """Once its port is open there is nothing to wait for."""
    channel = channels(1)
    await channel.watch_health()
    assert channel.healthy
    assert channels.health == [True]
    assert channel.probes == 0


async def test_one_success_makes_it_well(channels):
    """And it is said once; the probe is a plain GET without token or trace."""
    patient = Patient()
    async with app_running(patient) as app:
        channel = channels(app, app_health=probing(path="/up?x=1"), app_api_token="t0ken")
        async with Watch(channel):
            await eventually(lambda: channel.probes > 3)
            assert channel.healthy
        assert channels.health == [True]
        assert channel.failed_probes == 0
        seen = patient.requests[0]
        assert (seen.method, seen.target, seen.body) == ("GET", "/up?x=1", b"")
        assert [name.lower() for name, _ in seen.headers] == ["host"]


@pytest.mark.parametrize("answer", [404, 302, 500, None])
async def test_it_is_unwell_after_so_many_failures_in_a_row(channels, answer):
    """A wrong status or no answer in time; one success in between starts the count anew."""
    patient = Patient()
    async with app_running(patient) as app:
        channel = channels(app, app_health=probing())
        async with Watch(channel):
            await eventually(lambda: channel.healthy)
            for _ in range(2):
                failed = channel.failed_probes
                patient.answer = answer
                await eventually(lambda: channel.failed_probes > failed)  # noqa: B023 - read now
                patient.answer = 200
                probes = channel.probes
                await eventually(lambda: channel.probes > probes + 1)  # noqa: B023 - read now
                assert channels.health == [True]
            patient.answer = answer
            await eventually(lambda: not channel.healthy)
            assert channels.health == [True, False]
            with pytest.raises(Unavailable):
                await channel.call(calling())
            patient.answer = 200
            await eventually(lambda: channel.healthy)
            assert channels.health == [True, False, True]


async def test_it_starts_unwell_and_is_looked_for_often(channels):
    """Before the first success, the interval of a running app is too long to wait for."""
    patient = Patient()
    patient.answer = 503
    async with app_running(patient) as app:
        channel = channels(app, app_health=probing(interval=30.0, threshold=100))
        async with Watch(channel):
            await eventually(lambda: channel.probes >= 2)
            assert not channel.healthy
            assert channels.health == []
            patient.answer = 200
            await eventually(lambda: channel.healthy)


async def test_calls_do_not_change_its_health(channels):
    """Only the probe does."""

    async def script(connection):
        request = await connection.request()
        if request.target == "/healthz":
            await connection.reply(200)
        else:
            connection.reset()

    async with app_running(script) as app:
        channel = channels(app, app_health=probing(threshold=1))
        async with Watch(channel):
            await eventually(lambda: channel.healthy)
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await channel.call(calling(b"POST"))
            assert channels.health == [True]
