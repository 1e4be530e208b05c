"""The state API of a real runtime: the embedded store, declared stores, and what outlives it."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.raw_http import RawReply, connected, request
from tests.support.runtimes import Machine, Runtime, error_of

pytestmark = pytest.mark.anyio

JSON = ("Content-Type", "application/json")
STORE = "/v1.0/state/statestore"


async def send(runtime: Runtime, method: str, path: str, body: object) -> RawReply:
    return await runtime.ask(method, path, JSON, body=json.dumps(body).encode())


def declare(folder: Path, name: str, type_name: str, **metadata: str) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [
        "apiVersion: dapr.io/v1alpha1",
        "kind: Component",
        f"metadata: {{name: {name}}}",
        "spec:",
        f"  type: {type_name}",
        "  version: v1",
        "  metadata:",
        *(f"  - {{name: {key}, value: {json.dumps(text)}}}" for key, text in metadata.items()),
    ]
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")
    return folder


async def test_state_without_any_component(machine: Machine) -> None:
    """Every row works with nothing declared, and values outlive their runtime."""
    runtime = await machine.runtime("orders")
    items = [{"key": f"order {n}", "value": {"n": n}} for n in range(3)]
    saved = await send(runtime, "POST", STORE, items)
    assert (saved.status, saved.body) == (204, b"")
    reply = await runtime.ask("GET", f"{STORE}/order+1")
    assert (reply.status, reply.body) == (200, b'{"n": 1}')
    assert reply.header("content-type") == b"application/json"
    tag = (reply.header("etag") or b"").decode()
    bulk = await send(runtime, "POST", f"{STORE}/bulk", {"keys": ["order 2", "none"]})
    assert [one.get("data") for one in json.loads(bulk.body)] == [{"n": 2}, None]
    operations = [
        {"operation": "upsert", "request": {"key": "order 1", "value": 9, "etag": tag}},
        {"operation": "delete", "request": {"key": "order 0"}},
    ]
    done = await send(runtime, "POST", f"{STORE}/transaction", {"operations": operations})
    assert done.status == 204
    query = {"filter": {"EQ": {"n": 2}}}
    found = await send(runtime, "POST", "/v1.0-alpha1/state/statestore/query", query)
    assert [one["key"] for one in json.loads(found.body)["results"]] == ["order 2"]
    assert (await runtime.ask("DELETE", f"{STORE}/order%201", ("If-Match", tag))).status == 409
    assert await runtime.stop() == 0
    again = await machine.runtime("orders")
    listed = json.loads((await again.ask("GET", f"{STORE}?prefix=order")).body)
    assert listed == {"keys": ["order 1", "order 2"]}
    assert (await again.ask("GET", f"{STORE}/order+1")).body == b"9"


async def test_apps_do_not_see_each_other(machine: Machine) -> None:
    """Two apps have a key of the same name each; the slashes in it are escaped."""
    first, second = await machine.runtime("first"), await machine.runtime("second")
    key = quote("a/b", safe="")
    for runtime in (first, second):
        await send(runtime, "PUT", STORE, [{"key": "a/b", "value": runtime.app_id}])
    for runtime in (first, second):
        assert json.loads((await runtime.ask("GET", f"{STORE}/{key}")).body) == runtime.app_id
    assert (await first.ask("DELETE", f"{STORE}/{key}")).status == 204
    assert (await second.ask("GET", f"{STORE}/{key}")).status == 200


async def test_declared_store_that_apps_share(machine: Machine, tmp_path: Path) -> None:
    """With ``keyPrefix: none`` two apps share a key; encryption keys keep it from the disk."""
    folder = declare(
        tmp_path / "components",
        "shared",
        "state.sqlite",
        keyPrefix="none",
        primaryEncryptionKey="00" * 32,
    )
    flags = ("--resources-path", str(folder))
    first = await machine.runtime("first", *flags)
    second = await machine.runtime("second", *flags)
    item = {"key": "k", "value": "very-secret-value"}
    assert (await send(first, "POST", "/v1.0/state/shared", [item])).status == 204
    assert (await second.ask("GET", "/v1.0/state/shared/k")).body == b'"very-secret-value"'
    files = [path for path in machine.home.rglob("*") if path.is_file()]
    assert not [path for path in files if b"very-secret-value" in path.read_bytes()]


async def test_watch_across_runtimes(machine: Machine) -> None:
    """A change made through one runtime reaches a watch on another; a drain ends the watch."""
    first, second = await machine.runtime("orders"), await machine.runtime("orders")
    async with connected(first.port) as client:
        await client.send(request("GET", f"{STORE}/k/watch"))
        head = await client.head()
        assert (head.status, head.header("content-type")) == (200, b"text/event-stream")
        chunks = client.chunks()
        assert json.loads((await anext(chunks)).removeprefix(b"data: ")) == {"key": "k"}
        await send(second, "POST", STORE, [{"key": "k", "value": [1]}])
        seen = json.loads((await anext(chunks)).removeprefix(b"data: "))
        assert (seen["key"], seen["data"]) == ("k", [1])
        assert await first.stop() == 0
        assert [chunk async for chunk in chunks] == []


async def test_errors(machine: Machine) -> None:
    """Errors have the API's two shapes, and a wrong path is none of the block's."""
    runtime = await machine.runtime("orders")
    reply = await runtime.ask("GET", "/v1.0/state/nope/k")
    expected = (400, "ERR_STATE_STORE_NOT_FOUND", "state store nope is not found")
    assert error_of(reply) == expected
    assert json.loads(reply.body)["details"][0]["reason"] == "DAPR_STATE_NOT_FOUND"
    malformed = await runtime.ask("POST", STORE, JSON, body=b"{}")
    assert error_of(malformed)[:2] == (400, "ERR_MALFORMED_REQUEST")
    assert error_of(await runtime.ask("DELETE", STORE))[:2] == (404, "ERR_DIRECT_INVOKE")


async def test_large_value_in_pieces(machine: Machine) -> None:
    """A value of a megabyte, sent in chunks, comes back whole."""
    runtime = await machine.runtime("orders")
    value = json.dumps("x" * (1 << 20)).encode()
    body = b'[{"key":"big","value":' + value + b"}]"
    assert (await runtime.ask("POST", STORE, JSON, body=body, chunked=True)).status == 204
    assert (await runtime.ask("GET", f"{STORE}/big")).body == value
