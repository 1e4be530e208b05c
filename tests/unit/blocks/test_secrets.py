"""The secrets API over real stores: values, scopes and every error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.blocks.harness import Api, BrokenSecrets, Declared, EmptySecrets

from pillion.blocks.secrets import Secrets
from pillion.kinds.secretstores import SecretStore
from pillion.policy.secret_scopes import SecretScope, everything, secret_access

pytestmark = pytest.mark.anyio

PATH = "/v1.0/secrets/vault"
CONTENT = {"redis": {"password": "p1", "user": "u1"}, "key": "k1"}


@pytest.fixture
async def vault(components: Declared, tmp_path: Path) -> Path:
    """The file of the secret store ``vault``."""
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps(CONTENT))
    settings = {"secretsFile": str(file)}
    await components.open(SecretStore, "secretstores.local.file", "vault", settings)
    return file


async def test_one_secret(components: Declared, vault: Path) -> None:
    """A secret is an object of its values, also when its name has a colon."""
    api = Api(Secrets(components, everything).operations())
    answer = await api.ask("GET", f"{PATH}/redis%3Apassword?metadata.version=1")
    assert (answer.status, answer.json) == (200, {"redis:password": "p1"})
    assert answer.header("Content-Type") == "application/json"


async def test_every_secret(components: Declared, vault: Path) -> None:
    """The row ``bulk`` gives every secret with its values; it is no secret's name."""
    api = Api(Secrets(components, everything).operations())
    answer = await api.ask("GET", f"{PATH}/bulk")
    assert answer.json == {
        "redis:password": {"redis:password": "p1"},
        "redis:user": {"redis:user": "u1"},
        "key": {"key": "k1"},
    }


async def test_multi_valued(components: Declared, vault: Path) -> None:
    """A secret with several values gives them all."""
    settings = {"secretsFile": str(vault), "multiValued": "true"}
    await components.open(SecretStore, "secretstores.local.file", "multi", settings)
    api = Api(Secrets(components, everything).operations())
    answer = await api.ask("GET", "/v1.0/secrets/multi/redis")
    assert answer.json == {"password": "p1", "user": "u1"}


async def test_secret_without_values(components: Declared) -> None:
    """No values are 204; the store is told the metadata of the URL."""
    store = EmptySecrets()
    components.add(SecretStore, store, "empty")
    api = Api(Secrets(components, everything).operations())
    answer = await api.ask("GET", "/v1.0/secrets/empty/k?metadata.version_id=3&x=1")
    assert (answer.status, answer.body) == (204, b"")
    assert store.asked == [{"version_id": "3"}]


@pytest.mark.parametrize(
    ("scope", "open_"),
    [
        (SecretScope("vault", default_allowed=False), set()),
        (SecretScope("vault", denied=frozenset({"key"})), {"redis:password", "redis:user"}),
        (SecretScope("vault", default_allowed=False, allowed=frozenset({"key"})), {"key"}),
        (SecretScope("vault", allowed=frozenset({"key"}), denied=frozenset({"key"})), {"key"}),
        (SecretScope("another", default_allowed=False), {"redis:password", "redis:user", "key"}),
    ],
)
async def test_scopes(
    components: Declared, vault: Path, scope: SecretScope, open_: set[str]
) -> None:
    """What the scopes deny is 403, and is left out of the whole."""
    api = Api(Secrets(components, secret_access([scope])).operations())
    assert set((await api.ask("GET", f"{PATH}/bulk")).json) == open_
    for key in ("redis:password", "redis:user", "key"):
        answer = await api.ask("GET", f"{PATH}/{key}")
        if key in open_:
            assert answer.status == 200
        else:
            why = f'access denied by policy to get "{key}" from "vault"'
            assert answer.error == (403, "ERR_PERMISSION_DENIED", why)


@pytest.mark.parametrize("key", ["k", "bulk"])
async def test_no_store_at_all(components: Declared, key: str) -> None:
    """Without any secret store it is 500."""
    answer = await Api(Secrets(components, everything).operations()).ask("GET", f"{PATH}/{key}")
    expected = (500, "ERR_SECRET_STORES_NOT_CONFIGURED", "secret store is not configured")
    assert answer.error == expected


@pytest.mark.parametrize("key", ["k", "bulk"])
async def test_unknown_store(components: Declared, vault: Path, key: str) -> None:
    """A store that is not there is 401."""
    api = Api(Secrets(components, everything).operations())
    answer = await api.ask("GET", f"/v1.0/secrets/nope/{key}")
    expected = (401, "ERR_SECRET_STORE_NOT_FOUND", "failed finding secret store with key nope")
    assert answer.error == expected


async def test_unknown_secret(components: Declared, vault: Path) -> None:
    """A secret that is not there is an error of the store, without details."""
    api = Api(Secrets(components, everything).operations())
    answer = await api.ask("GET", f"{PATH}/nope")
    assert answer.error[:2] == (500, "ERR_SECRET_GET")
    assert "secret nope not found" in answer.error[2]
    assert "details" not in answer.json


@pytest.mark.parametrize("key", ["k", "bulk"])
async def test_store_that_is_gone(components: Declared, key: str) -> None:
    """Trouble of the store is 500 with its message."""
    components.add(SecretStore, BrokenSecrets(), "vault")
    answer = await Api(Secrets(components, everything).operations()).ask("GET", f"{PATH}/{key}")
    assert answer.error[:2] == (500, "ERR_SECRET_GET")
    assert "the server is gone" in answer.error[2]
