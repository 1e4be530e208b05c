"""What a runtime does with the app beside it."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.conditions import eventually
from tests.support.runtimes import Machine, error_of, poll
from tests.support.scripted_app import (
    AppConnection,
    AppRequest,
    ScriptedApp,
    answering,
    app_running,
)

pytestmark = pytest.mark.anyio


async def test_the_app_may_come_late(machine: Machine) -> None:
    """Outbound health is there before the app; health and calls wait for its port."""
    async with app_running(answering(lambda _asked: (200, b"here"))) as app:
        port = app.port
        await app.stop()
        callee = machine.launch("callee", app_port=port)
        await callee.up()
        missing = await callee.ask("GET", "/v1.0/healthz")
        assert error_of(missing) == (500, "ERR_HEALTH_NOT_READY", "dapr is not ready: [app]")
        caller = await machine.runtime("caller")
        assert (await caller.invoke("callee", "x")).status == 500
        await app.start()
        await callee.ready()

        async def answers() -> bool:
            return (await caller.invoke("callee", "x")).body == b"here"

        await poll(answers, "the app is called")


async def test_dapr_config_is_read_once_with_the_runtimes_headers(machine: Machine) -> None:
    """``GET /dapr/config`` comes before the app is ready, with app id and token."""
    asked: list[AppRequest] = []

    def answer(request: AppRequest) -> tuple[int, bytes]:
        asked.append(request)
        return 200, b"{}"

    async with app_running(answering(answer)) as app:
        await machine.runtime(
            "callee",
            "--disable-init-endpoints",
            "subscribe",
            app_port=app.port,
            env={"APP_API_TOKEN": "token"},
        )
    assert [one.target for one in asked] == ["/dapr/config"]
    assert asked[0].header("Dapr-App-Id") == "callee"
    assert asked[0].header("dapr-api-token") == "token"


async def test_an_unhealthy_app_gets_no_calls_until_it_is_well(machine: Machine) -> None:
    """Probes decide: after the threshold the app gets nothing and the registry says so."""
    healthy = True
    calls = 0

    def answer(request: AppRequest) -> tuple[int, bytes]:
        nonlocal calls
        if request.target == "/alive":
            assert request.header("traceparent") is None
            return (200 if healthy else 503), b""
        calls += 1
        return 200, b"worked"

    async with app_running(answering(answer)) as app:
        callee = await machine.runtime(
            "callee",
            *("--enable-app-health-check", "--app-health-check-path", "/alive"),
            *("--app-health-probe-interval", "1", "--app-health-threshold", "2"),
            app_port=app.port,
        )
        caller = await machine.runtime("caller")
        assert (await caller.invoke("callee", "x")).body == b"worked"
        healthy = False

        async def refused() -> bool:
            reply = await caller.invoke("callee", "x")
            return reply.header("x-pillion-reason") == b"no-healthy-instance"

        await poll(refused, "the caller knows", 10.0)
        before = calls
        itself = await callee.invoke("callee", "x")
        assert error_of(itself)[:2] == (500, "ERR_DIRECT_INVOKE")
        assert "app is not in a healthy state" in error_of(itself)[2]
        assert calls == before
        assert await callee.metric("pillion_app_healthy") == 0
        healthy = True

        async def served() -> bool:
            return (await caller.invoke("callee", "x")).body == b"worked"

        await poll(served, "the app is called again", 10.0)


async def test_max_concurrency_bounds_the_calls_to_the_app(machine: Machine) -> None:
    """With a limit of two, eight calls are answered, never more than two at a time."""
    running = 0
    most = 0
    release = asyncio.Event()

    async def script(connection: AppConnection) -> None:
        nonlocal running, most
        while True:
            await connection.request()
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1
            await connection.reply(200, b"done")

    async with app_running(script) as app:
        callee = await machine.runtime("callee", "--app-max-concurrency", "2", app_port=app.port)
        caller = await machine.runtime("caller")
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(caller.invoke("callee", str(n))) for n in range(8)]

            async def queued() -> bool:
                return await callee.metric("pillion_admission_waiting") == 6

            await poll(queued, "six calls wait")
            release.set()
        assert [call.result().body for call in calls] == [b"done"] * 8
    assert most == 2


async def test_a_stale_kept_connection_fails_no_call(machine: Machine) -> None:
    """An app that closes idle connections right after its reply costs the caller nothing."""

    async def script(connection: AppConnection) -> None:
        await connection.request()
        await connection.reply(200, b"once")
        connection.close()

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        for _ in range(30):
            assert (await caller.invoke("callee", "x")).body == b"once"
        assert app.opened >= 30


async def test_metadata_describes_the_app(machine: Machine, echo: ScriptedApp) -> None:
    """GET and PUT of metadata, and health by app id, as the reference has them."""
    runtime = await machine.runtime("callee", "--app-max-concurrency", "7", app_port=echo.port)
    put = await runtime.ask("PUT", "/v1.0/metadata/cliPID", body=b"4711")
    assert (put.status, put.body) == (204, b"")
    metadata = json.loads((await runtime.ask("GET", "/v1.0/metadata")).body)
    assert metadata["id"] == "callee"
    assert metadata["runtimeVersion"] == metadata["extended"]["daprRuntimeVersion"]
    assert metadata["extended"]["cliPID"] == "4711"
    assert metadata["appConnectionProperties"] == {
        "port": echo.port,
        "protocol": "http",
        "channelAddress": "127.0.0.1",
        "maxConcurrency": 7,
    }
    assert metadata["actorRuntime"]["runtimeStatus"] == "DISABLED"
    assert (await runtime.ask("GET", "/v1.0/healthz?appid=callee")).status == 204
    other = await runtime.ask("GET", "/v1.0/healthz?appid=other")
    assert error_of(other)[:2] == (500, "ERR_HEALTH_APPID_NOT_MATCH")


async def test_shutdown_drains_and_forced_shutdown_does_not(machine: Machine) -> None:
    """POST shutdown ends the process with 0 after the call in flight, forced with 1 at once."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def script(connection: AppConnection) -> None:
        await connection.request()
        asked.set()
        await release.wait()
        await connection.reply(200, b"finished")

    async with app_running(script) as app:
        callee = await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        async with asyncio.TaskGroup() as group:
            call = group.create_task(caller.invoke("callee", "x", method="POST"))
            await asked.wait()
            assert (await callee.ask("POST", "/v1.0/shutdown")).status == 204
            await eventually(lambda: "draining" in callee.command.err, "the drain")
            release.set()
        assert call.result().body == b"finished"
        assert await asyncio.to_thread(callee.command.wait, 10.0) == 0
    forced = await machine.runtime("forced")
    await forced.ask("POST", "/v1.0/shutdown", ("dapr-force-shutdown", "true"))
    assert await asyncio.to_thread(forced.command.wait, 5.0) == 1


async def test_an_https_app_with_its_own_certificate_is_served(
    machine: Machine, tmp_path: Path
) -> None:
    """``--app-protocol https`` speaks TLS to the app and does not ask who signed it."""

    def own_certificate() -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "app")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        ).sign(key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = tmp_path / "app.pem"
        file.write_bytes(certificate.public_bytes(pem) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    tls = await asyncio.to_thread(own_certificate)
    async with app_running(answering(lambda _asked: (200, b"over TLS")), tls) as app:
        await machine.runtime("callee", "--app-protocol", "https", app_port=app.port)
        caller = await machine.runtime("caller")
        assert (await caller.invoke("callee", "x")).body == b"over TLS"
