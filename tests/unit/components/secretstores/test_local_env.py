"""Secrets from the environment: which variables they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillion.errors import NotFound
from pillion.kinds.component import Context
from pillion_components.secretstores.local_env import LocalEnvSecretStore

pytestmark = pytest.mark.anyio


def context(tmp_path: Path, **settings: str) -> Context:
    return Context(name="env", home=tmp_path, app_id="orders", settings=settings)


@pytest.mark.parametrize("name", ["APP_API_TOKEN", "DAPR_API_TOKEN", "dapr_x", "App_Api_Token"])
async def test_tokens_of_the_runtime_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """What the runtime itself is trusted with is no secret of apps, in any case."""
    monkeypatch.setenv(name, "hidden")
    async with LocalEnvSecretStore.open(context(tmp_path)) as store:
        with pytest.raises(NotFound):
            await store.get(name, {})
        assert name not in await store.bulk({})


async def test_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a prefix only its variables are secrets, named without it."""
    monkeypatch.setenv("MYAPP_KEY", "1")
    monkeypatch.setenv("MYAPP_", "no name is left")
    monkeypatch.setenv("OTHER", "2")
    async with LocalEnvSecretStore.open(context(tmp_path, prefix="MYAPP_")) as store:
        assert await store.bulk({}) == {"KEY": {"KEY": "1"}}
        assert await store.get("KEY", {}) == {"KEY": "1"}
        for name in ("OTHER", "MYAPP_KEY", ""):
            with pytest.raises(NotFound):
                await store.get(name, {})


async def test_prefix_does_not_open_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A prefix is no way around what is kept."""
    monkeypatch.setenv("DAPR_API_TOKEN", "hidden")
    async with LocalEnvSecretStore.open(context(tmp_path, prefix="DAPR_")) as store:
        with pytest.raises(NotFound):
            await store.get("API_TOKEN", {})
        assert await store.bulk({}) == {}
