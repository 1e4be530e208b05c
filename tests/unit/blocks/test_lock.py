"""The lock API over a real store: who gets it, who gives it up, and every error."""

from __future__ import annotations

import pytest
from tests.unit.blocks.harness import Api, BrokenLock, Declared

from pillion.blocks.lock import Lock
from pillion.kinds.lock import LockStore

pytestmark = pytest.mark.anyio

LOCK = "/v1.0-alpha1/lock/locks"
UNLOCK = "/v1.0-alpha1/unlock/locks"
RENEW = f"{LOCK}/renew"


@pytest.fixture
def block(components: Declared) -> Lock:
    return Lock(components, app_id="orders", namespace="shop", max_body=-1)


@pytest.fixture
async def store(components: Declared) -> LockStore:
    """The component behind ``locks``."""
    return await components.open(LockStore, "lock.in-memory", "locks")


@pytest.fixture
def api(block: Lock, store: LockStore) -> Api:
    """The block's rows, over ``store``."""
    return Api(block.operations())


def asking(owner: str = "a", **fields: object) -> dict[str, object]:
    return {"resourceId": "file", "lockOwner": owner, "expiryInSeconds": 60, **fields}


async def test_one_owner_at_a_time(api: Api) -> None:
    """The first gets it and a token; others do not until it is given up, then with a greater."""
    first = (await api.ask("POST", LOCK, asking("a"))).json
    assert first["success"] is True
    assert (await api.ask("POST", LOCK, asking("b"))).json == {"success": False}
    assert (await api.ask("POST", UNLOCK, asking("b"))).json == {"status": 2}
    assert (await api.ask("POST", UNLOCK, asking("a"))).json == {"status": 0}
    assert (await api.ask("POST", UNLOCK, asking("a"))).json == {"status": 1}
    second = (await api.ask("POST", LOCK, asking("b"))).json
    assert second["fencingToken"] > first["fencingToken"]


async def test_renew(api: Api) -> None:
    """The owner holds on to a lock; nobody else does."""
    await api.ask("POST", LOCK, asking("a"))
    assert (await api.ask("POST", RENEW, asking("a"))).json == {"success": True}
    assert (await api.ask("POST", RENEW, asking("b"))).json == {"success": False}


async def test_bodies_as_protobuf_has_them(api: Api) -> None:
    """snake_case, numbers as text and unknown fields are taken."""
    body = {"resource_id": "r", "lock_owner": "a", "expiry_in_seconds": "60", "more": [1]}
    assert (await api.ask("POST", LOCK, body)).json["success"] is True
    assert (await api.ask("POST", UNLOCK, {"resource_id": "r", "lockOwner": "a"})).json == {
        "status": 0
    }


@pytest.mark.parametrize(
    ("strategy", "resource"),
    [
        ("appid", "lock||orders||file"),
        ("name", "lock||mine||file"),
        ("namespace", "lock||shop.orders||file"),
        ("none", "lock||file"),
        ("team", "lock||team||file"),
    ],
)
async def test_key_prefixes(
    components: Declared, block: Lock, strategy: str, resource: str
) -> None:
    """Each form of ``keyPrefix`` gives the resource that the store locks."""
    store = await components.open(LockStore, "lock.in-memory", "mine", keyPrefix=strategy)
    answer = await Api(block.operations()).ask("POST", "/v1.0-alpha1/lock/mine", asking())
    assert answer.json["success"] is True
    assert await store.renew(resource, "a", 60)


async def test_no_prefix_said(api: Api, store: LockStore) -> None:
    """The app's id is the prefix unless something else is said."""
    await api.ask("POST", LOCK, asking())
    assert await store.renew("lock||orders||file", "a", 60)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (LOCK, asking(expiryInSeconds=0), "ExpiryInSeconds is not positive in lock store locks"),
        (LOCK, asking(expiryInSeconds=-1), "ExpiryInSeconds is not positive in lock store locks"),
        (LOCK, {}, "ExpiryInSeconds is not positive in lock store locks"),
        (LOCK, b"", "ExpiryInSeconds is not positive in lock store locks"),
        (RENEW, asking(expiryInSeconds=0), "ExpiryInSeconds is not positive in lock store locks"),
        (LOCK, asking(resourceId=""), "ResourceId is empty in lock store locks"),
        (LOCK, asking(owner=""), "LockOwner is empty in lock store locks"),
        (UNLOCK, b"", "ResourceId is empty in lock store locks"),
        (UNLOCK, {"resourceId": "r"}, "LockOwner is empty in lock store locks"),
        (LOCK, asking(resourceId="a||b"), "input key/keyPrefix 'a||b' can't contain '||'"),
        (UNLOCK, asking(resourceId="a||b"), "input key/keyPrefix 'a||b' can't contain '||'"),
    ],
)
async def test_wrong_requests(api: Api, path: str, body: object, message: str) -> None:
    """What is missing or wrong is 400, and named."""
    answer = await api.ask("POST", path, body)
    assert answer.error == (400, "ERR_MALFORMED_REQUEST", message)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        b'{"resourceId":1}',
        b'{"lockOwner":["a"]}',
        b'{"expiryInSeconds":"soon"}',
        b'{"expiryInSeconds":1.5}',
        b'{"expiryInSeconds":true}',
        b'{"expiryInSeconds":2147483648}',
        b'{"expiryInSeconds":1e400}',
        b'{"resourceId":"a","resource_id":"b"}',
    ],
)
@pytest.mark.parametrize("path", [LOCK, RENEW, UNLOCK])
async def test_malformed_bodies(api: Api, path: str, body: bytes) -> None:
    """A body of the wrong form is 400."""
    answer = await api.ask("POST", path, body)
    assert answer.error[:2] == (400, "ERR_MALFORMED_REQUEST")
    assert answer.error[2].startswith("failed deserializing HTTP body: ")


@pytest.mark.parametrize("path", [LOCK, RENEW, UNLOCK])
async def test_no_store_at_all(block: Lock, path: str) -> None:
    """Without any lock store it is 500, whatever else is wrong but the expiry."""
    api = Api(block.operations())
    for body in (asking(), asking(resourceId="")):
        answer = await api.ask("POST", path, body)
        expected = (500, "ERR_LOCK_STORE_NOT_CONFIGURED", "lock store is not configured")
        assert answer.error == expected
    if path != UNLOCK:
        answer = await api.ask("POST", path, asking(expiryInSeconds=0))
        assert answer.error[1] == "ERR_MALFORMED_REQUEST"


@pytest.mark.parametrize("path", ["lock/nope", "lock/nope/renew", "unlock/nope"])
async def test_unknown_store(api: Api, path: str) -> None:
    """A store that is not there is 400, after the checks of the body."""
    answer = await api.ask("POST", f"/v1.0-alpha1/{path}", asking())
    assert answer.error == (400, "ERR_LOCK_STORE_NOT_FOUND", "lock store nope not found")
    answer = await api.ask("POST", f"/v1.0-alpha1/{path}", asking(resourceId=""))
    assert answer.error[2] == "ResourceId is empty in lock store nope"


@pytest.mark.parametrize(
    ("path", "code"), [(LOCK, "ERR_TRY_LOCK"), (RENEW, "ERR_TRY_LOCK"), (UNLOCK, "ERR_UNLOCK")]
)
async def test_store_that_is_gone(components: Declared, block: Lock, path: str, code: str) -> None:
    """Trouble of the store is 500 with its message."""
    components.add(LockStore, BrokenLock(), "locks")
    answer = await Api(block.operations()).ask("POST", path, asking())
    assert answer.error[:2] == (500, code)
    assert "the server is gone" in answer.error[2]
