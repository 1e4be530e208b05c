"""Calls between apps through two real runtimes."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from tests.support.conditions import eventually
from tests.support.raw_http import connected, request
from tests.support.runtimes import Machine, error_of
from tests.support.scripted_app import AppConnection, ScriptedApp, app_running

pytestmark = pytest.mark.anyio

BASIC = "Basic " + base64.b64encode(b"dapr-app-id:callee").decode()


async def test_every_target_form_reaches_the_app(machine: Machine, echo: ScriptedApp) -> None:
    """URL, namespace, header, Basic form and direct URL all call the same app."""
    await machine.runtime("callee", app_port=echo.port)
    caller = await machine.runtime("caller")
    prefix = "/v1.0/invoke"
    forms = [
        (f"{prefix}/callee/method/a/b?x=1%202&y", ()),
        (f"{prefix}/callee.default/method/a/b?x=1%202&y", ()),
        ("/a/b?x=1%202&y", (("dapr-app-id", "callee"),)),
        ("/a/b?x=1%202&y", (("Authorization", BASIC),)),
        (f"{prefix}/http://127.0.0.1:{echo.port}/method/a/b?x=1%202&y", ()),
        (f"{prefix}/http%3A%2F%2F127.0.0.1:{echo.port}/method/a/b?x=1%202&y", ()),
        ("/v1.0////invoke/callee/method//a/./c/../b?x=1%202&y", ()),
    ]
    for target, headers in forms:
        reply = await caller.ask("GET", target, *headers)
        assert reply.status == 200, (target, reply)
        assert json.loads(reply.body)["target"] == "/a/b?x=1%202&y", target


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_verb_travels_with_its_body(
    machine: Machine, echo: ScriptedApp, method: str
) -> None:
    """The app sees the verb and the body that the caller sent."""
    await machine.runtime("callee", app_port=echo.port)
    caller = await machine.runtime("caller")
    reply = await caller.invoke("callee", "x", method=method, body=b"payload")
    seen = json.loads(reply.body)
    assert (seen["method"], seen["body"]) == (method, "payload")


async def test_head_gets_the_length_and_no_body(machine: Machine, echo: ScriptedApp) -> None:
    """HEAD passes through two runtimes with the length that the body would have had."""

    async def script(connection: AppConnection) -> None:
        while True:
            await connection.request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        reply = await caller.invoke("callee", "x", method="HEAD")
    assert (reply.status, reply.header("content-length")) == (200, b"12345")


async def test_header_rules(machine: Machine, echo: ScriptedApp) -> None:
    """Identity, forwarding and trace headers are the runtime's; hop-by-hop ones do not pass."""
    await machine.runtime("callee", app_port=echo.port, env={"APP_API_TOKEN": "app-secret"})
    caller = await machine.runtime("caller", env={"DAPR_API_TOKEN": "api-secret"})
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    reply = await caller.invoke(
        "callee",
        "x",
        ("dapr-api-token", "api-secret"),
        ("dapr-caller-app-id", "forged"),
        ("X-Forwarded-For", "10.9.8.7"),
        ("Connection", "close, X-Private"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("grpc-trace-bin", "AAAA"),
        ("X-Kept", "yes"),
        ("traceparent", trace),
        ("tracestate", "a=b"),
        ("baggage", "k=v"),
    )
    headers = [(name.lower(), value) for name, value in json.loads(reply.body)["headers"]]
    seen = dict(headers)
    assert len(seen) == len(headers), "no header came twice"
    assert seen["dapr-caller-app-id"] == "caller"
    assert seen["dapr-caller-namespace"] == "default"
    assert seen["dapr-callee-app-id"] == "callee"
    assert seen["dapr-api-token"] == "app-secret"
    assert seen["x-forwarded-for"] == "10.9.8.7, 127.0.0.1"
    assert seen["forwarded"].startswith("for=127.0.0.1;by=127.0.0.1;host=")
    assert seen["x-forwarded-host"]
    assert seen["traceparent"][:35] == trace[:35]
    assert seen["traceparent"] != trace
    assert (seen["tracestate"], seen["baggage"], seen["x-kept"]) == ("a=b", "k=v", "yes")
    assert not {"x-private", "keep-alive", "grpc-trace-bin", "dapr-app-id"} & seen.keys()
    assert reply.header("traceparent") == seen["traceparent"].encode()


async def test_the_apps_own_answer_passes_untouched(machine: Machine) -> None:
    """Status, headers and body of the app come back, redirects and errors included."""

    async def script(connection: AppConnection) -> None:
        while True:
            asked = await connection.request()
            status = int(asked.target[1:])
            await connection.reply(status, b"own words", "Location: /elsewhere", "X-App: 1")

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        for status in (200, 302, 404, 418, 500, 503):
            reply = await caller.invoke("callee", str(status))
            assert (reply.status, reply.body) == (status, b"own words")
            assert (reply.header("location"), reply.header("x-app")) == (b"/elsewhere", b"1")
            assert reply.header("x-pillion-reason") is None


async def test_an_app_calls_itself_without_the_mesh(machine: Machine, echo: ScriptedApp) -> None:
    """A call to one's own app id goes straight to the app, with the caller's identity."""
    runtime = await machine.runtime("callee", app_port=echo.port)
    reply = await runtime.invoke("callee", "x", ("dapr-caller-app-id", "forged"))
    headers = dict(json.loads(reply.body)["headers"])
    assert headers["dapr-caller-app-id"] == "callee"
    assert await runtime.metric("pillion_mesh_connections") == 0


async def test_http_endpoint_by_name(machine: Machine, echo: ScriptedApp, tmp_path: Path) -> None:
    """An HTTPEndpoint is called by its name; its headers go over the caller's."""
    resources = tmp_path / "resources"
    resources.mkdir()
    (resources / "endpoint.yaml").write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: outside}\n"
        f"spec:\n  baseUrl: http://127.0.0.1:{echo.port}/base\n"
        "  headers:\n  - {name: X-Key, value: theirs}\n"
    )
    caller = await machine.runtime("caller", "--resources-path", str(resources))
    reply = await caller.invoke("outside", "a?b=c", ("X-Key", "mine"))
    seen = json.loads(reply.body)
    assert seen["target"] == "/base/a?b=c"
    names = {name.lower(): value for name, value in seen["headers"]}
    assert names["x-key"] == "theirs"
    assert not {"dapr-caller-app-id", "x-forwarded-for"} & names.keys()
    metadata = json.loads((await caller.ask("GET", "/v1.0/metadata")).body)
    assert metadata["httpEndpoints"] == [{"name": "outside"}]


async def test_paths_are_decoded_once_and_cleaned_before_dispatch(
    machine: Machine, echo: ScriptedApp
) -> None:
    """What could be read in two ways is read in one, or refused."""
    await machine.runtime("callee", app_port=echo.port)
    caller = await machine.runtime("caller")
    for method, path in [
        ("admin%2F..%2Fpublic", "/public"),
        ("../../etc/passwd", "/etc/passwd"),
        ("", "/"),
        ("a%20b", "/a%20b"),
        ("caf%C3%A9", "/caf%C3%A9"),
    ]:
        reply = await caller.invoke("callee", method)
        assert json.loads(reply.body)["target"] == path, method
    for method in ("a%23b", "a%3Fb", "a%00b", "test%25stream", "a%0d%0ab"):
        status, code, _message = error_of(await caller.invoke("callee", method))
        assert (status, code) == (500, "ERR_DIRECT_INVOKE"), method
    assert (await caller.invoke("callee", "a%zz")).status == 400


async def test_errors_of_the_reference(machine: Machine, echo: ScriptedApp) -> None:
    """No target, unknown app, no channel, bad app id: status, code and message as documented."""
    await machine.runtime("callee", app_port=echo.port)
    await machine.runtime("mute")
    caller = await machine.runtime("caller")
    no_target = (
        404,
        "ERR_DIRECT_INVOKE",
        "failed getting app id either from the URL path or the header dapr-app-id",
    )
    for method, target in [
        ("GET", "/v1.0/invoke/callee"),
        ("GET", "/nowhere"),
        ("DELETE", "/v1.0/metadata"),
        ("GET", "/"),
        ("PATCH", "/v1.0/state/statestore/key"),
    ]:
        assert error_of(await caller.ask(method, target)) == no_target, target
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, code, message = error_of(await caller.invoke("nobody", "x"))
    assert loop.time() - began < 1.0
    assert (status, code) == (500, "ERR_DIRECT_INVOKE")
    assert message.startswith("failed to invoke, id: nobody, err: couldn't find app id nobody")
    for app, reason in [("mute", b"no-healthy-instance"), ("a.b.c", b"bad-app-id")]:
        reply = await caller.invoke(app, "x")
        status, code, message = error_of(reply)
        assert (status, code) == (500, "ERR_DIRECT_INVOKE"), app
        assert message.startswith(f"failed to invoke, id: {app}, err: "), app
        assert reply.header("x-pillion-reason") == reason


async def test_deadline_travels_and_shrinks(machine: Machine) -> None:
    """The app sees less than the caller gave, and a spent deadline ends the call in time."""
    seen: list[int] = []
    gone = asyncio.Event()

    async def script(connection: AppConnection) -> None:
        while True:
            asked = await connection.request()
            seen.append(int(asked.header("x-pillion-deadline-ms") or -1))
            if asked.target == "/slow":
                await connection.until_gone()
                gone.set()
                return
            await connection.reply(200, b"in time")

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        quick = await caller.invoke("callee", "quick", ("x-pillion-deadline-ms", "5000"))
        assert quick.body == b"in time"
        assert 0 < seen[0] < 5000
        loop = asyncio.get_running_loop()
        began = loop.time()
        slow = await caller.invoke("callee", "slow", ("x-pillion-deadline-ms", "300"))
        assert 0.25 < loop.time() - began < 1.5
        assert slow.status == 504
        assert slow.header("x-pillion-reason") == b"deadline"
        await asyncio.wait_for(gone.wait(), 2.0)
        spent = await caller.invoke("callee", "quick", ("x-pillion-deadline-ms", "0"))
        assert spent.status == 504
        assert len(seen) == 2, "a spent deadline reaches no app"
        bad = await caller.invoke("callee", "quick", ("x-pillion-deadline-ms", "soon"))
        assert error_of(bad)[:2] == (500, "ERR_DIRECT_INVOKE")


async def test_a_hang_up_cancels_the_apps_work(machine: Machine) -> None:
    """When the caller goes away the app behind two runtimes notices."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(connection: AppConnection) -> None:
        await connection.request()
        asked.set()
        await connection.until_gone()
        gone.set()

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        async with connected(caller.port) as client:
            await client.send(request("GET", "/v1.0/invoke/callee/method/x"))
            await asyncio.wait_for(asked.wait(), 5.0)
        await asyncio.wait_for(gone.wait(), 3.0)


async def test_a_half_closed_client_gets_its_answer(machine: Machine) -> None:
    """Shutting down the sending side is no hang-up."""
    answer = asyncio.Event()

    async def script(connection: AppConnection) -> None:
        await connection.request()
        await answer.wait()
        await connection.reply(200, b"still here")

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        async with connected(caller.port) as client:
            await client.send(request("GET", "/v1.0/invoke/callee/method/x"))
            client.half_close()
            await asyncio.sleep(0.1)  # the end of file must reach the runtime first
            answer.set()
            reply = await client.reply()
    assert reply.body == b"still here"


async def test_app_dying_in_mid_reply_is_no_complete_reply(machine: Machine) -> None:
    """A reply that breaks off reaches the caller as a broken connection, not as a short success."""

    async def script(connection: AppConnection) -> None:
        await connection.request()
        await connection.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        connection.reset()

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        async with connected(caller.port) as client:
            await client.send(request("GET", "/v1.0/invoke/callee/method/x"))
            rest = await client.rest()
    assert not rest.endswith(b"0\r\n\r\n")


async def test_app_down_is_an_error_of_the_reference(machine: Machine, echo: ScriptedApp) -> None:
    """An app that stopped listening is 500 ERR_DIRECT_INVOKE, fast."""
    await machine.runtime("callee", app_port=echo.port)
    caller = await machine.runtime("caller")
    assert (await caller.invoke("callee", "x")).status == 200
    await echo.stop()
    status, code, message = error_of(await caller.invoke("callee", "x", method="POST"))
    assert (status, code) == (500, "ERR_DIRECT_INVOKE")
    assert "callee" in message


async def test_limits_hold_on_the_way(machine: Machine, echo: ScriptedApp) -> None:
    """Header block over the limit 431, body over the limit 413, announced or not."""
    await machine.runtime("callee", app_port=echo.port)
    caller = await machine.runtime(
        "caller", "--max-body-size", "100Ki", "--read-buffer-size", "2Ki"
    )
    large = await caller.invoke("callee", "x", ("X-Large", "y" * 3000))
    assert large.status == 431
    announced = await caller.invoke("callee", "x", method="POST", body=b"z" * 103_000)
    assert announced.status == 413
    exact = await caller.invoke("callee", "x", method="POST", body=b"z" * 102_400)
    assert len(json.loads(exact.body)["body"]) == 102_400
    async with connected(caller.port) as client:
        await client.send(
            b"POST /v1.0/invoke/callee/method/x HTTP/1.1\r\nHost: a\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(11):
            await client.send(b"%x\r\n%b\r\n" % (10_000, b"z" * 10_000))
        assert (await client.reply()).status == 413


async def test_api_token_guards_everything_but_health(machine: Machine) -> None:
    """Without the token 401 in plain text; health stays open."""
    runtime = await machine.runtime("guarded", env={"DAPR_API_TOKEN": "hunter2"})
    refused = await runtime.ask("GET", "/v1.0/metadata")
    assert (refused.status, refused.body) == (401, b"invalid api token")
    wrong = await runtime.ask("GET", "/v1.0/metadata", ("dapr-api-token", "wrong"))
    assert wrong.status == 401
    right = await runtime.ask("GET", "/v1.0/metadata", ("dapr-api-token", "hunter2"))
    assert right.status == 200
    assert b"hunter2" not in right.body
    for path in ("/v1.0/healthz", "/v1.0/healthz/outbound"):
        assert (await runtime.ask("GET", path)).status == 204
    assert "hunter2" not in runtime.command.err


async def test_unix_socket_serves_the_api(machine: Machine, tmp_path: Path) -> None:
    """The API on a Unix socket answers, for its owner only."""
    folder = tmp_path / "s"
    folder.mkdir()
    runtime = machine.launch("local", "--unix-domain-socket", str(folder))
    path = folder / "dapr-local-http.socket"
    await eventually(path.exists, "the socket", 10.0)
    assert path.stat().st_mode & 0o777 == 0o600
    async with connected(path) as client:
        reply = await client.ask(request("GET", "/v1.0/metadata"))
    assert json.loads(reply.body)["id"] == "local"
    assert await runtime.stop() == 0


async def test_api_rules_switch_apis_off(
    machine: Machine, echo: ScriptedApp, tmp_path: Path
) -> None:
    """A denied API looks like a wrong path, invocation included; health stays."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec:\n"
        "  api:\n    denied:\n    - {name: invoke, version: v1.0, protocol: http}\n"
        "    - {name: shutdown, version: v1.0, protocol: http}\n"
    )
    await machine.runtime("callee", app_port=echo.port)
    caller = await machine.runtime("caller", "--config", str(file))
    assert error_of(await caller.invoke("callee", "x"))[0] == 404
    assert error_of(await caller.ask("POST", "/v1.0/shutdown"))[0] == 404
    assert (await caller.ask("GET", "/v1.0/healthz")).status == 204
