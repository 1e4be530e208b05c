"""Every row is found by its method and path, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.call import Reply
from pillion.net.router import Router
from pillion.operation import Operation, Request


async def endpoint(_request: Request) -> Reply:
    return Reply(200)


async def fallback(_request: Request) -> Reply:
    return Reply(404)


def row(name: str, methods: str, path: str, group: str = "g", versions=("v1.0",)) -> Operation:
    return Operation(name, tuple(methods.split()), path, endpoint, group=group, versions=versions)


ROWS = [
    row("state.get", "GET", "state/{store}/{key...}", "state"),
    row("state.save", "POST PUT", "state/{store}", "state"),
    row("state.bulk", "POST PUT", "state/{store}/bulk", "state"),
    row("healthz", "GET", "healthz"),
    row("healthz.outbound", "GET", "healthz/outbound"),
    row("lock", "POST", "lock/{store}", "lock", ("v1.0-alpha1", "v1.0")),
]


def find(method: str, path: str, allowed=lambda _group, _version: True):
    request = Request(method.encode(), path.encode("latin-1"))
    found, operation = Router(ROWS, fallback, allowed).find(request)
    assert found is (fallback if operation is None else endpoint)
    return operation and operation.name, request.params


@pytest.mark.parametrize(
    ("method", "path", "name", "params"),
    [
        ("GET", "/v1.0/healthz", "healthz", {}),
        ("GET", "/v1.0/healthz/", "healthz", {}),
        ("GET", "//v1.0///healthz", "healthz", {}),
        ("GET", "/v1.0/healthz/outbound", "healthz.outbound", {}),
        ("GET", "/v1.0/state/s/k", "state.get", {"store": "s", "key": "k"}),
        ("GET", "/v1.0/state/s/a/b/c", "state.get", {"store": "s", "key": "a/b/c"}),
        ("GET", "/v1.0/state/s%2Ft/a+b%20c", "state.get", {"store": "s/t", "key": "a b c"}),
        ("GET", "/v1.0/state/s/%C3%A9", "state.get", {"store": "s", "key": "é"}),
        ("GET", "/v1.0/state/s/%ff", "state.get", {"store": "s", "key": "\ufffd"}),
        ("PUT", "/v1.0/state/s", "state.save", {"store": "s"}),
        ("POST", "/v1.0/state/s/bulk", "state.bulk", {"store": "s"}),
        ("POST", "/v1.0/lock/l", "lock", {"store": "l"}),
        ("POST", "/v1.0-alpha1/lock/l", "lock", {"store": "l"}),
    ],
)
def test_found(method, path, name, params):
    """With its parameters unescaped."""
    assert find(method, path) == (name, params)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1.0"),
        ("GET", "/healthz"),
        ("GET", "/v1.0/nothing"),
        ("GET", "/v1.1/healthz"),
        ("GET", "/V1.0/healthz"),
        ("GET", "/v1.0/Healthz"),
        ("POST", "/v1.0/healthz"),
        ("HEAD", "/v1.0/healthz"),
        ("GET", "/v1.0/healthz/other"),
        ("GET", "/v1.0/healthz/outbound/more"),
        ("GET", "/v1.0/state"),
        ("GET", "/v1.0/state/s"),
        ("POST", "/v1.0/state/s/other"),
        ("POST", "/v1.0-alpha1/state/s"),
        ("POST", "/v1.0/invoke/lock/s"),
        ("GET", "/v1.0/invoke/healthz"),
    ],
)
def test_not_found(method, path):
    """It goes to the fallback."""
    assert find(method, path) == (None, {})


def test_denied_rows_are_not_there():
    """By group and version."""
    denied = {("lock", "v1.0")}

    def allowed(group, version):
        return (group, version) not in denied

    assert find("POST", "/v1.0/lock/l", allowed) == (None, {})
    assert find("POST", "/v1.0-alpha1/lock/l", allowed)[0] == "lock"


@given(st.text("/vstaehlzo1.0%+\xff", max_size=40), st.sampled_from(["GET", "POST", "X"]))
def test_any_path_is_routed(path, method):
    """No path crashes it."""
    find(method, path)
