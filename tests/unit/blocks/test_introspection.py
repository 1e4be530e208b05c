"""A runtime says truly whether it is ready, and what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pillion import __version__
from pillion.blocks.introspection import MAX_EXTENDED, MAX_VALUE, Introspection
from pillion.body import BodyStream
from pillion.errors import Failure, Invalid
from pillion.inline import Run
from pillion.operation import Request
from pillion.options import AppHealthOptions, Options
from pillion.wire.errors_json import status_of


class Subject:
    """The block of one runtime, and what it waits for."""

    def __init__(self, endpoints=(), **options) -> None:
        self.missing: list[str] = []
        self.outbound_missing: list[str] = []
        self.stopped: list[bool] = []
        self.components: list[object] = []
        self.refused: object = None
        self.block = Introspection(
            Options(app_id="orders", **options),
            not_ready=lambda: self.missing,
            outbound_not_ready=lambda: self.outbound_missing,
            shut_down=self.stopped.append,
            endpoints=endpoints,
            components=self.described,
            refused=lambda: self.refused,
        )

    async def described(self) -> list[object]:
        """Return what the metadata shows of components."""
        return self.components

    def ask(self, name: str, request: Request | None = None) -> Any:
        """Call the endpoint of a row."""
        (row,) = [row for row in self.block.operations() if row.name == name]
        outcome = []
        Run(row.endpoint(request or Request()), lambda *ended: outcome.append(ended))  # type: ignore[arg-type]
        ((reply, error),) = outcome
        if error is not None:
            raise error
        return reply

    def metadata(self) -> Any:
        reply = self.ask("metadata.get")
        assert reply.status == 200
        return json.loads(reply.body)

    def put(self, key: str, body: bytes | BodyStream) -> Any:
        request = Request(b"PUT", body=body)
        request.params = {"key": key}
        return self.ask("metadata.set", request)


def test_rows() -> None:
    """Health needs no token; the public port has health and metadata, and no shutdown."""
    rows = {row.name: row for row in Subject().block.operations()}
    assert {name for name, row in rows.items() if row.public} == {"healthz.get", "healthz.outbound"}
    public = {row.name for row in Subject().block.public_operations()}
    assert public == set(rows) - {"shutdown"}
    assert all(row.versions == ("v1.0",) for row in rows.values())
    assert {row.group for row in rows.values()} == {"healthz", "metadata", "shutdown"}


@pytest.mark.parametrize("query", [b"", b"appid=orders", b"appid=", b"other=x"])
def test_ready(query: bytes) -> None:
    """204 with nothing to say."""
    reply = Subject().ask("healthz.get", Request(query=query))
    assert (reply.status, reply.body) == (204, b"")
    assert Subject().ask("healthz.outbound").status == 204


def test_not_ready() -> None:
    """500, with the names of what is missing."""
    subject = Subject()
    subject.missing = ["app", "state"]
    with pytest.raises(Failure, match=r"^dapr is not ready: \[app state\]$") as refused:
        subject.ask("healthz.get")
    assert (refused.value.code, status_of(refused.value)) == ("ERR_HEALTH_NOT_READY", 500)
    assert subject.ask("healthz.outbound").status == 204
    subject.outbound_missing = ["components"]
    with pytest.raises(Failure, match=r"\[components\]") as refused:
        subject.ask("healthz.outbound")
    assert (refused.value.code, status_of(refused.value)) == ("ERR_OUTBOUND_HEALTH_NOT_READY", 500)


def test_health_of_another_app() -> None:
    """A probe that reached the wrong runtime is told so."""
    with pytest.raises(Failure) as refused:
        Subject().ask("healthz.get", Request(query=b"appid=checkout"))
    assert (refused.value.code, status_of(refused.value)) == ("ERR_HEALTH_APPID_NOT_MATCH", 500)


def test_metadata_of_a_runtime_without_an_app() -> None:
    """Empty parts are left out; the actor runtime always is there."""
    assert Subject().metadata() == {
        "id": "orders",
        "runtimeVersion": __version__,
        "extended": {"daprRuntimeVersion": __version__},
        "actorRuntime": {"runtimeStatus": "DISABLED", "hostReady": False},
    }


def test_metadata_of_a_runtime_with_an_app() -> None:
    """Its connection, its health probe and the endpoints, as the reference spells them."""
    subject = Subject(
        ["shop"],
        app_port=8080,
        app_protocol="https",
        app_host="localhost",
        app_max_concurrency=5,
        app_health=AppHealthOptions(path="/up", interval=2.5, timeout=0.25, threshold=4),
    )
    metadata = subject.metadata()
    assert metadata["httpEndpoints"] == [{"name": "shop"}]
    assert metadata["appConnectionProperties"] == {
        "port": 8080,
        "protocol": "https",
        "channelAddress": "localhost",
        "maxConcurrency": 5,
        "health": {
            "healthCheckPath": "/up",
            "healthProbeInterval": "2.5s",
            "healthProbeTimeout": "250ms",
            "healthThreshold": 4,
        },
    }


def test_metadata_can_be_added() -> None:
    """The raw body is the value; a later one replaces it."""
    subject = Subject()
    assert subject.put("cliPID", b"123").status == 204
    stream = BodyStream()
    stream.feed(b"py")
    stream.feed("thön".encode())
    stream.finish()
    subject.put("appCommand", stream)
    subject.put("appCommand2", b"\xff")
    subject.put("cliPID", b"456")
    extended = subject.metadata()["extended"]
    assert extended["cliPID"] == "456"
    assert extended["appCommand"] == "pythön"
    assert extended["appCommand2"] == "\ufffd"


def test_metadata_is_bounded() -> None:
    """In keys and in bytes; known keys can still be set."""
    subject = Subject()
    with pytest.raises(Invalid) as refused:
        subject.put("long", b"x" * (MAX_VALUE + 1))
    assert status_of(refused.value) == 400
    for number in range(MAX_EXTENDED - 1):
        subject.put(str(number), b"x" * MAX_VALUE)
    with pytest.raises(Invalid):
        subject.put("one more", b"")
    assert subject.put("0", b"y").status == 204


@pytest.mark.parametrize(
    ("headers", "forced"),
    [
        ([], False),
        ([(b"Dapr-Force-Shutdown", b"True")], True),
        ([(b"dapr-force-shutdown", b"false")], False),
    ],
)
def test_shutdown(headers: list[tuple[bytes, bytes]], forced: bool) -> None:
    """204, and the runtime is told whether to wait."""
    subject = Subject()
    reply = subject.ask("shutdown", Request(b"POST", headers=headers))
    assert (reply.status, reply.body) == (204, b"")
    assert subject.stopped == [forced]


def test_metadata_of_components_and_refused_changes():
    """They are there when there is something to show, and only then."""
    subject = Subject()
    assert not {"components", "refusedChange"} & json.loads(subject.ask("metadata.get").body).keys()
    subject.components = [{"name": "statestore", "type": "state.sqlite"}]
    subject.refused = {"problems": ["a.yaml:1:1: wrong"]}
    shown = json.loads(subject.ask("metadata.get").body)
    assert shown["components"] == subject.components
    assert shown["refusedChange"] == subject.refused
