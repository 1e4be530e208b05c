"""The state API over real stores: what each row answers, and every error it can give."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from tests.unit.blocks.harness import Api, BrokenState, Declared, PlainState

from pillion.blocks.state import State
from pillion.body import BodyStream
from pillion.kinds.state import Put, StateStore

pytestmark = pytest.mark.anyio

STORE = "/v1.0/state/store"
KEY = "000102030405060708090a0b0c0d0e0f"
OTHER_KEY = "f0" * 32


@pytest.fixture
async def state(components: Declared) -> AsyncIterator[State]:
    block = State(components, app_id="orders", namespace="shop", max_body=1 << 20)
    yield block
    await block.aclose()


@pytest.fixture
async def store(components: Declared) -> StateStore:
    """The component behind ``store``, in memory."""
    return await components.open(StateStore, "state.in-memory", "store")


@pytest.fixture
def api(state: State, store: StateStore) -> Api:
    """The block's rows, over ``store``."""
    return Api(state.operations())


async def save(api: Api, *items: object, query: str = "") -> None:
    answer = await api.ask("POST", f"{STORE}{query}", list(items))
    assert (answer.status, answer.body) == (204, b"")


# What it answers.


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_saved_values_come_back_as_they_were(api: Api, method: str) -> None:
    """The JSON text of a value is stored and returned untouched, with a tag."""
    text = b'{"b" : [1.50, "\\u00e9"], "a":1e400}'
    answer = await api.ask(method, STORE, b'[{"key":"k", "value": ' + text + b" }]")
    assert (answer.status, answer.body) == (204, b"")
    answer = await api.ask("GET", f"{STORE}/k")
    assert (answer.status, answer.body) == (200, text)
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("ETag")


async def test_missing_key(api: Api) -> None:
    """A missing key is 204 without a body, and deleting it is fine."""
    assert (await api.ask("GET", f"{STORE}/none")).status == 204
    assert (await api.ask("DELETE", f"{STORE}/none")).status == 204


async def test_empty_list_and_missing_value(api: Api) -> None:
    """Nothing to save is fine, and an item without a value stores null."""
    await save(api)
    await save(api, {"key": "k"})
    assert (await api.ask("GET", f"{STORE}/k")).body == b"null"


async def test_keys_have_the_prefix_of_the_app(api: Api, store: StateStore) -> None:
    """The store sees the app's id before each key; the app sees its own key, slashes too."""
    await save(api, {"key": "a/b c", "value": 1})
    assert (await api.ask("GET", f"{STORE}/a%2Fb+c")).body == b"1"
    assert await store.get("orders||a/b c") is not None


async def test_streamed_body(api: Api) -> None:
    """A body that arrives in chunks is read whole."""
    body = BodyStream()
    for chunk in (b'[{"key":"k",', b'"value":"long"}]'):
        body.feed(chunk)
    body.finish()
    assert (await api.ask("POST", STORE, body)).status == 204
    assert (await api.ask("GET", f"{STORE}/k")).body == b'"long"'


async def test_time_to_live(api: Api) -> None:
    """A value with a ttl says when it ends; metadata in the URL goes over the item's."""
    await save(
        api,
        {"key": "k", "value": 1, "metadata": {"ttlInSeconds": "1"}},
        query="?metadata.ttlInSeconds=3600",
    )
    answer = await api.ask("GET", f"{STORE}/k")
    text = answer.header("metadata.ttlExpireTime") or ""
    left = datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime.now(UTC)
    assert 3500 < left.total_seconds() <= 3600
    bulk = await api.ask("POST", f"{STORE}/bulk", {"keys": ["k"]})
    assert bulk.json[0]["metadata"] == {"ttlExpireTime": text}
    await save(api, {"key": "k", "value": 1, "metadata": {"ttlInSeconds": "-1"}})
    assert (await api.ask("GET", f"{STORE}/k")).header("metadata.ttlExpireTime") is None


async def test_entity_tags(api: Api) -> None:
    """A write or deletion with a tag counts for that version only."""
    await save(api, {"key": "k", "value": 1})
    tag = (await api.ask("GET", f"{STORE}/k")).header("ETag")
    await save(api, {"key": "k", "value": 2, "etag": tag})
    answer = await api.ask("POST", STORE, [{"key": "k", "value": 3, "etag": tag}])
    assert answer.error[:2] == (409, "ERR_STATE_SAVE")
    assert "failed saving state in state store store: possible etag mismatch" in answer.error[2]
    answer = await api.ask("DELETE", f"{STORE}/k", b"", ("If-Match", tag))
    assert answer.error[:2] == (409, "ERR_STATE_DELETE")
    assert "failed deleting state with key k: possible etag mismatch" in answer.error[2]
    tag = (await api.ask("GET", f"{STORE}/k")).header("ETag")
    assert (await api.ask("DELETE", f"{STORE}/k", b"", ("if-match", tag))).status == 204
    assert (await api.ask("GET", f"{STORE}/k")).status == 204


async def test_first_write_without_a_tag_creates_only(api: Api) -> None:
    """It succeeds once; a deletion of that kind is for missing keys; an empty tag is none."""
    item = {"key": "k", "value": 1, "etag": "", "options": {"concurrency": "first-write"}}
    await save(api, item)
    assert (await api.ask("POST", STORE, [item])).status == 409
    answer = await api.ask("DELETE", f"{STORE}/k?concurrency=first-write")
    assert answer.error[:2] == (409, "ERR_STATE_DELETE")
    assert (await api.ask("DELETE", f"{STORE}/none?concurrency=first-write")).status == 204
    await save(api, {"key": "k", "value": 2, "options": {"concurrency": "last-write"}})


async def test_several_items_are_saved_each_on_its_own(api: Api) -> None:
    """One item that cannot be saved is named, and the others are saved."""
    await save(api, {"key": "a", "value": 1})
    items = [
        {"key": "a", "value": 2, "options": {"concurrency": "first-write"}},
        {"key": "b", "value": 3},
    ]
    answer = await api.ask("POST", STORE, items)
    assert answer.error[:2] == (409, "ERR_STATE_SAVE")
    assert (await api.ask("GET", f"{STORE}/b")).body == b"3"
    items = [{"key": key, "options": {"concurrency": "first-write"}} for key in ("a", "b", "c")]
    answer = await api.ask("POST", STORE, items)
    assert "2 items were not saved: a: " in answer.error[2]


async def test_bulk_get(api: Api) -> None:
    """There is one item for each key asked, in that order, twice for one asked twice."""
    await save(api, {"key": "a", "value": {"x": 1}}, {"key": "b", "value": "t"})
    answer = await api.ask(
        "POST", f"{STORE}/bulk?metadata.x=1", {"Keys": ["b", "no", "a", "b"], "parallelism": 10}
    )
    assert answer.status == 200
    found = answer.json
    assert [(item["key"], item.get("data")) for item in found] == [
        ("b", "t"),
        ("no", None),
        ("a", {"x": 1}),
        ("b", "t"),
    ]
    assert found[1] == {"key": "no"}
    assert found[0]["etag"]
    for empty in ({"keys": []}, {}, {"keys": None}):
        assert (await api.ask("PUT", f"{STORE}/bulk", empty)).json == []


async def test_bulk_get_of_a_value_that_is_not_json(api: Api, store: StateStore) -> None:
    """It is an error of that key alone; the key on its own gives the bytes."""
    await store.write(Put("orders||raw", b"\xff{", None))
    answer = await api.ask("POST", f"{STORE}/bulk", {"keys": ["raw", "no"]})
    assert "not JSON" in answer.json[0]["error"]
    assert answer.json[1] == {"key": "no"}
    assert (await api.ask("GET", f"{STORE}/raw")).body == b"\xff{"


async def test_transaction(api: Api) -> None:
    """All changes are made, in order, whatever the case of the field names."""
    await save(api, {"key": "old", "value": 1})
    body = {
        "Operations": [
            {"Operation": "upsert", "Request": {"KEY": "new", "value": [2]}},
            {"operation": "delete", "request": {"key": "old"}},
        ],
        "metadata": {"anything": "is taken"},
    }
    assert (await api.ask("POST", f"{STORE}/transaction", body)).status == 204
    assert (await api.ask("GET", f"{STORE}/new")).body == b"[2]"
    assert (await api.ask("GET", f"{STORE}/old")).status == 204
    for empty in ({"operations": []}, {}):
        assert (await api.ask("PUT", f"{STORE}/transaction", empty)).status == 204


async def test_transaction_that_fails_changes_nothing(api: Api) -> None:
    """A tag that does not hold is 500 here, and no other change is made."""
    await save(api, {"key": "k", "value": 1})
    operations = [
        {"operation": "upsert", "request": {"key": "other", "value": 1}},
        {
            "operation": "upsert",
            "request": {"key": "k", "value": 2, "options": {"concurrency": "first-write"}},
        },
    ]
    answer = await api.ask("POST", f"{STORE}/transaction", {"operations": operations})
    assert answer.error[:2] == (500, "ERR_STATE_TRANSACTION")
    assert answer.error[2].startswith("error while executing state transaction: possible etag")
    assert (await api.ask("GET", f"{STORE}/other")).status == 204


async def test_query(api: Api) -> None:
    """Items are found by their content, and keys come without their prefix."""
    await save(api, *({"key": f"k{n}", "value": {"n": n}} for n in range(4)))
    query = {
        "filter": {"GT": {"n": 0}},
        "sort": [{"key": "n", "order": "DESC"}],
        "page": {"limit": 2},
    }
    path = "/v1.0-alpha1/state/store/query"
    answer = await api.ask("POST", path, query)
    assert answer.status == 200
    assert [(one["key"], one["data"]) for one in answer.json["results"]] == [
        ("k3", {"n": 3}),
        ("k2", {"n": 2}),
    ]
    query["page"]["token"] = answer.json["token"]
    assert [one["key"] for one in (await api.ask("PUT", path, query)).json["results"]] == ["k1"]
    assert (await api.ask("POST", path, {"filter": {"EQ": {"n": 9}}})).status == 204


async def test_list(api: Api, store: StateStore) -> None:
    """The app's own keys come page by page, without their prefix."""
    await store.write(Put("another||a1", b"1"))
    await save(api, *({"key": f"a{n}", "value": n} for n in range(5)), {"key": "b", "value": 0})
    seen: list[str] = []
    target = f"{STORE}?prefix=a&limit=2"
    answer = await api.ask("GET", target)
    assert len(answer.json["keys"]) == 2
    while True:
        seen += answer.json["keys"]
        token = answer.json.get("token")
        if not token:
            break
        answer = await api.ask("GET", f"{target}&token={token}")
    assert sorted(seen) == ["a0", "a1", "a2", "a3", "a4"]
    assert len((await api.ask("GET", STORE)).json["keys"]) == 6


async def test_list_without_a_prefix_hides_what_cannot_be_named(
    components: Declared, state: State
) -> None:
    """With ``keyPrefix: none`` the prefixed keys of others are left out."""
    store = await components.open(StateStore, "state.in-memory", "bare", keyPrefix="none")
    await store.write(Put("another||a", b"1"))
    await store.write(Put("mine", b"1"))
    assert (await Api(state.operations()).ask("GET", "/v1.0/state/bare")).json == {"keys": ["mine"]}


async def test_watch(api: Api) -> None:
    """A watch gives what is there and then every change, until the client goes."""
    await save(api, {"key": "k", "value": {"n": 1}})
    reply = await api.open("GET", f"{STORE}/k/watch")
    assert (b"Content-Type", b"text/event-stream") in reply.headers
    assert isinstance(reply.body, BodyStream)
    first = _event(await reply.body.read())
    assert (first["key"], first["data"]) == ("k", {"n": 1})
    assert first["etag"]
    await save(api, {"key": "k", "value": {"n": 2}})
    assert _event(await reply.body.read())["data"] == {"n": 2}
    await api.ask("DELETE", f"{STORE}/k")
    assert _event(await reply.body.read()) == {"key": "k"}
    reply.body.close()


async def test_watches_end_when_the_runtime_stops(api: Api, state: State) -> None:
    """Closing the block ends every stream in order, and no new one begins."""
    streams = [(await api.open("GET", f"{STORE}/k{n}/watch")).body for n in range(2)]
    await streams[0].read()
    await state.aclose()
    for stream in streams:
        while await stream.read():
            pass
    assert (await api.ask("GET", f"{STORE}/k/watch")).status == 503


def _event(text: bytes) -> dict[str, object]:
    assert text.startswith(b"data: ")
    assert text.endswith(b"\n\n")
    return json.loads(b"".join(line[6:] for line in text.splitlines()))


# Prefixes and encryption.


@pytest.mark.parametrize(
    ("strategy", "stored"),
    [
        ("appid", "orders||k"),
        ("", "orders||k"),
        ("name", "mine||k"),
        ("namespace", "shop.orders||k"),
        ("none", "k"),
        ("Team A", "Team A||k"),
    ],
)
async def test_key_prefixes(components: Declared, state: State, strategy: str, stored: str) -> None:
    """Each form of ``keyPrefix`` gives its key in the store, and the app reads it back."""
    store = await components.open(StateStore, "state.in-memory", "mine", keyPrefix=strategy)
    api = Api(state.operations())
    await api.ask("POST", "/v1.0/state/mine", [{"key": "k", "value": 1}])
    assert await store.get(stored) is not None
    assert (await api.ask("GET", "/v1.0/state/mine/k")).body == b"1"
    assert (await api.ask("GET", "/v1.0/state/mine")).json["keys"] == ["k"]


async def test_encryption(components: Declared, state: State) -> None:
    """Values are encrypted in the store and plain in every answer."""
    store = await components.open(StateStore, "state.in-memory", "vault", primaryEncryptionKey=KEY)
    api = Api(state.operations())
    path = "/v1.0/state/vault"
    await api.ask("POST", path, [{"key": "a", "value": "secret"}, {"key": "b", "value": {"n": 1}}])
    operations = [{"operation": "upsert", "request": {"key": "c", "value": "secret"}}]
    assert (await api.ask("POST", f"{path}/transaction", {"operations": operations})).status == 204
    for key in "abc":
        item = await store.get(f"orders||{key}")
        assert b"secret" not in item.value
        assert b"||" in item.value
    assert (await api.ask("GET", f"{path}/a")).body == b'"secret"'
    bulk = await api.ask("POST", f"{path}/bulk", {"keys": ["b", "c"]})
    assert [one["data"] for one in bulk.json] == [{"n": 1}, "secret"]
    query = await api.ask("POST", "/v1.0-alpha1/state/vault/query", {"filter": {}})
    assert query.error[:2] == (500, "ERR_STATE_QUERY")
    assert "encrypted" in query.error[2]


async def test_encryption_keys_change(components: Declared, state: State) -> None:
    """A value of the old key is read while that key is secondary, and is an error after."""
    store = await components.open(StateStore, "state.in-memory", "vault", primaryEncryptionKey=KEY)
    api = Api(state.operations())
    await api.ask("POST", "/v1.0/state/vault", [{"key": "a", "value": 1}])
    keys = {"primaryEncryptionKey": OTHER_KEY, "secondaryEncryptionKey": KEY}
    components.add(StateStore, store, "vault", **keys)
    assert (await api.ask("GET", "/v1.0/state/vault/a")).body == b"1"
    components.add(StateStore, store, "vault", primaryEncryptionKey=OTHER_KEY)
    answer = await api.ask("GET", "/v1.0/state/vault/a")
    assert answer.error[:2] == (500, "ERR_STATE_GET")
    assert OTHER_KEY not in answer.error[2]
    bulk = await api.ask("POST", "/v1.0/state/vault/bulk", {"keys": ["a", "none"]})
    assert set(bulk.json[0]) == {"key", "error"}
    assert bulk.json[1] == {"key": "none"}


async def test_outbox_is_taken_and_said_to_do_nothing(
    components: Declared, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    """Outbox metadata are accepted with a warning, and projections are not stored."""
    outbox = {"outboxPublishPubsub": "bus", "outboxPublishTopic": "t"}
    await components.open(StateStore, "state.in-memory", "boxed", **outbox)
    api = Api(state.operations())
    projection = {"key": "p", "value": 1, "metadata": {"outbox.projection": "true"}}
    operations = [
        {"operation": "upsert", "request": projection},
        {"operation": "upsert", "request": {"key": "k", "value": 1}},
    ]
    path = "/v1.0/state/boxed"
    assert (await api.ask("POST", f"{path}/transaction", {"operations": operations})).status == 204
    assert (await api.ask("GET", f"{path}/k")).status == 200
    assert (await api.ask("GET", f"{path}/p")).status == 204
    assert caplog.text.count("not published") == 1


# Errors.


async def test_unknown_store(api: Api) -> None:
    """A store that is not there is 400 with one detail."""
    answer = await api.ask("GET", "/v1.0/state/nope/k")
    assert answer.error == (400, "ERR_STATE_STORE_NOT_FOUND", "state store nope is not found")
    assert len(answer.json["details"]) == 1
    assert answer.info["reason"] == "DAPR_STATE_NOT_FOUND"
    assert answer.info["metadata"] == {"appID": "orders"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1.0/state/s/k"),
        ("POST", "/v1.0/state/s"),
        ("DELETE", "/v1.0/state/s/k"),
        ("POST", "/v1.0/state/s/bulk"),
        ("POST", "/v1.0/state/s/transaction"),
        ("POST", "/v1.0-alpha1/state/s/query"),
        ("GET", "/v1.0/state/s"),
        ("GET", "/v1.0/state/s/k/watch"),
    ],
)
async def test_no_store_at_all(state: State, method: str, path: str) -> None:
    """Every row says when no state store is configured."""
    answer = await Api(state.operations()).ask(method, path)
    expected = (500, "ERR_STATE_STORE_NOT_CONFIGURED", "state store s is not configured")
    assert answer.error == expected
    assert answer.info["reason"] == "DAPR_STATE_NOT_CONFIGURED"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/ke%7C%7Cy1", b""),
        ("DELETE", "/ke||y1", b""),
        ("GET", "/ke||y1/watch", b""),
        ("GET", "?prefix=ke||y1", b""),
        ("POST", "", [{"key": "fine"}, {"key": "ke||y1"}]),
        ("POST", "/bulk", {"keys": ["ke||y1"]}),
        (
            "POST",
            "/transaction",
            {"operations": [{"operation": "delete", "request": {"key": "ke||y1"}}]},
        ),
    ],
)
async def test_illegal_key(api: Api, method: str, path: str, body: object) -> None:
    """A key with the separator is refused by every row, with three details."""
    answer = await api.ask(method, STORE + path, body)
    why = "input key/keyPrefix 'ke||y1' can't contain '||'"
    assert answer.error == (400, "ERR_MALFORMED_REQUEST", why)
    assert answer.info["reason"] == "DAPR_STATE_ILLEGAL_KEY"
    _, resource, request = answer.json["details"]
    assert (resource["resource_type"], resource["resource_name"]) == ("state", "store")
    assert request["field_violations"] == [{"field": "ke||y1", "description": why}]
    assert (await api.ask("GET", f"{STORE}/fine")).status == 204


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("", b"{}", "array"),
        ("", b'{"key":"k"}', "array"),
        ("", b'[{"key":"k"},]', "trailing comma"),
        ("", b"", "truncated"),
        ("", b"null", "array"),
        ("", b'[{"value":1}]', '"key" is a required field'),
        ("", b'[{"key":""}]', '"key" is a required field'),
        ("", b'[{"key":"k","etag":1}]', "etag"),
        ("", b'[{"key":1}]', "key"),
        ("", b'[{"key":"k","metadata":{"ttlInSeconds":60}}]', "metadata"),
        ("", b'[{"Key":"k","Options":{"Concurrency":1}}]', "concurrency"),
        ("", b'[{"key":"\xff"}]', "utf-8"),
        ("", b'[{"key":"k","value":"\xff"}]', "utf-8"),
        ("", b"[" * 100_000, "failed deserializing"),
        ("/bulk", b"[]", "object"),
        ("/bulk", b'{"keys":[1]}', "keys"),
        ("/bulk", b"{", "truncated"),
        ("/transaction", b"[]", "object"),
        ("/transaction", b"{", "truncated"),
        ("/transaction", b'{"operations":{}}', "array"),
        ("/transaction", b'{"operations":[{"operation":"upsert"}]}', '"key" is a required'),
        ("/transaction", b'{"operations":[{"operation":"delete","request":{}}]}', '"key" is a req'),
    ],
)  # fmt: skip
async def test_malformed_bodies(api: Api, path: str, body: bytes, said: str) -> None:
    """A body of the wrong form is 400, and the message says what is wrong where."""
    answer = await api.ask("POST", STORE + path, body)
    assert answer.error[:2] == (400, "ERR_MALFORMED_REQUEST")
    assert answer.error[2].startswith("failed deserializing HTTP body: ")
    assert said in answer.error[2]
    assert "details" not in answer.json


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"metadata": {"ttlInSeconds": "soon"}}, "ttlInSeconds"),
        ({"metadata": {"ttlInSeconds": "-2"}}, "ttlInSeconds"),
        ({"metadata": {"ttlInSeconds": "2147483648"}}, "ttlInSeconds"),
        ({"metadata": {"ttlInSeconds": ""}}, "ttlInSeconds"),
        ({"options": {"concurrency": "whenever"}}, "unrecognized concurrency"),
        ({"options": {"consistency": "some"}}, "unrecognized consistency"),
    ],
)
async def test_wrong_options(api: Api, item: dict[str, object], said: str) -> None:
    """Unknown options and a wrong ttl are the store's error, and nothing is saved."""
    body = [{"key": "first", "value": 1}, {"key": "k", **item}]
    answer = await api.ask("POST", STORE, body)
    assert answer.error[:2] == (500, "ERR_STATE_SAVE")
    assert answer.error[2].startswith("failed saving state in state store store: ")
    assert said in answer.error[2]
    assert (await api.ask("GET", f"{STORE}/first")).status == 204
    operations = [{"operation": "upsert", "request": {"key": "k", **item}}]
    answer = await api.ask("POST", f"{STORE}/transaction", {"operations": operations})
    assert answer.error[:2] == (500, "ERR_STATE_TRANSACTION")
    assert said in answer.error[2]


@pytest.mark.parametrize("option", ["concurrency=whenever", "consistency=some"])
async def test_wrong_options_of_a_deletion(api: Api, option: str) -> None:
    """They are 500, and the key stays."""
    await save(api, {"key": "k", "value": 1})
    answer = await api.ask("DELETE", f"{STORE}/k?{option}")
    assert answer.error[:2] == (500, "ERR_STATE_DELETE")
    assert (await api.ask("GET", f"{STORE}/k")).status == 200


async def test_unknown_operation(api: Api) -> None:
    """An operation must be upsert or delete, in lower case."""
    for name in ("UPSERT", "merge", ""):
        body = {"operations": [{"operation": name, "request": {"key": "k"}}]}
        answer = await api.ask("POST", f"{STORE}/transaction", body)
        why = f"operation type {name} not supported"
        assert answer.error == (400, "ERR_NOT_SUPPORTED_STATE_OPERATION", why)


async def test_a_deletion_in_a_transaction_needs_its_tag(api: Api) -> None:
    """First-write without a tag would mean nothing there, and is refused."""
    request = {"key": "k", "options": {"concurrency": "first-write"}}
    body = {"operations": [{"operation": "delete", "request": request}]}
    answer = await api.ask("POST", f"{STORE}/transaction", body)
    assert answer.error[:2] == (500, "ERR_STATE_TRANSACTION")


@pytest.mark.parametrize("query", [b"[]", b"{", b"", b'{"filter":{"LIKE":{"a":1}}}'])
async def test_wrong_query(api: Api, query: bytes) -> None:
    """A query that is not understood is 500 with its details."""
    answer = await api.ask("POST", "/v1.0-alpha1/state/store/query", query)
    assert answer.error[:2] == (500, "ERR_STATE_QUERY")
    assert answer.info["reason"] == "DAPR_STATE_QUERY_FAILED"


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.5", "\u0661", "9" * 400])
async def test_wrong_limit(api: Api, limit: str) -> None:
    """A page has 1 to 1,000 keys."""
    answer = await api.ask("GET", f"{STORE}?limit={limit}")
    assert answer.error[:2] == (400, "ERR_MALFORMED_REQUEST")


async def test_wrong_token(api: Api) -> None:
    """A token of nobody is the store's error."""
    answer = await api.ask("GET", f"{STORE}?token=%00nobody")
    assert answer.error[:2] == (500, "ERR_STATE_LIST")


async def test_body_over_the_limit(api: Api) -> None:
    """A body longer than the runtime takes is 413."""
    answer = await api.ask("POST", STORE, b"[" + b" " * (1 << 20) + b"]")
    assert answer.status == 413


@pytest.mark.parametrize(
    ("method", "path", "body", "reason", "details"),
    [
        ("POST", "/v1.0/state/plain/transaction", {}, "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED", 3),
        ("POST", "/v1.0-alpha1/state/plain/query", {}, "DAPR_STATE_QUERYING_NOT_SUPPORTED", 2),
        ("GET", "/v1.0/state/plain", b"", "PILLION_STATE_LISTING_NOT_SUPPORTED", 2),
        ("GET", "/v1.0/state/plain/k/watch", b"", "PILLION_STATE_WATCHING_NOT_SUPPORTED", 2),
    ],
)
async def test_what_a_store_does_not_do(
    components: Declared, state: State, method: str, path: str, body: object, reason: str,
    details: int,
) -> None:  # fmt: skip
    """A missing ability is 500 with the reason."""
    components.add(StateStore, PlainState(), "plain")
    answer = await Api(state.operations()).ask(method, path, body)
    assert answer.error[:2] == (500, "ERR_STATE_STORE_NOT_SUPPORTED")
    assert answer.info["reason"] == reason
    assert len(answer.json["details"]) == details


async def test_ttl_in_a_store_without(components: Declared, state: State) -> None:
    """A ttl is refused where nothing expires; asking for none is fine."""
    components.add(StateStore, PlainState(), "plain")
    api = Api(state.operations())
    path = "/v1.0/state/plain"
    answer = await api.ask("POST", path, [{"key": "k", "metadata": {"ttlInSeconds": "5"}}])
    assert answer.error[:2] == (500, "ERR_STATE_SAVE")
    answer = await api.ask("POST", path, [{"key": "k", "metadata": {"ttlInSeconds": "-1"}}])
    assert answer.status == 204


async def test_tag_that_is_none(components: Declared, state: State) -> None:
    """A tag that the store could not have given is 400."""
    components.add(StateStore, PlainState(), "plain")
    api = Api(state.operations())
    answer = await api.ask("POST", "/v1.0/state/plain", [{"key": "k", "etag": "x"}])
    assert answer.error[:2] == (400, "ERR_STATE_SAVE")
    assert "invalid etag value" in answer.error[2]
    answer = await api.ask("DELETE", "/v1.0/state/plain/k", b"", ("If-Match", "x"))
    assert answer.error[:2] == (400, "ERR_STATE_DELETE")


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        ("GET", "/k", b"", "ERR_STATE_GET", "fail to get k from state store gone: "),
        ("POST", "", [{"key": "k"}], "ERR_STATE_SAVE", "failed saving state in state store gone: "),
        ("POST", "", [{"key": "k"}, {"key": "l"}], "ERR_STATE_SAVE", "failed saving state in "),
        ("DELETE", "/k", b"", "ERR_STATE_DELETE", "failed deleting state with key k: "),
        ("POST", "/bulk", {"keys": ["k"]}, "ERR_STATE_BULK_GET", ""),
        ("POST", "/transaction",
         {"operations": [{"operation": "delete", "request": {"key": "k"}}]},
         "ERR_STATE_TRANSACTION", "error while executing state transaction: "),
    ],
)  # fmt: skip
async def test_store_that_is_gone(
    components: Declared, state: State, method: str, path: str, body: object, code: str,
    message: str,
) -> None:  # fmt: skip
    """Every row gives its own 500 with the store's message."""
    components.add(StateStore, BrokenState(), "gone")
    answer = await Api(state.operations()).ask(method, f"/v1.0/state/gone{path}", body)
    assert answer.error[:2] == (500, code)
    assert answer.error[2].startswith(message)
    assert "the server is gone" in answer.error[2]
    assert "details" not in answer.json


async def test_transaction_that_is_too_long(components: Declared, state: State) -> None:
    """More changes than the store takes are refused, and both numbers said."""
    components.add(StateStore, BrokenState(), "two")
    operations = [{"operation": "delete", "request": {"key": f"k{n}"}} for n in range(3)]
    answer = await Api(state.operations()).ask(
        "POST", "/v1.0/state/two/transaction", {"operations": operations}
    )
    assert answer.error[:2] == (400, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS")
    assert answer.info["metadata"] == {"currentOpsTransaction": "3", "maxOpsPerTransaction": "2"}


async def test_deleting_without_a_key_is_no_row(api: Api) -> None:
    """It is not matched, so that the API answers it as any unknown path."""
    assert (await api.ask("DELETE", STORE)).status == 404
