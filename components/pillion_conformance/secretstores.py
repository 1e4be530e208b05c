"""What every secret store promises.

Secret stores are read only, so what a store requires also plants the suite's secrets in it: the
fixture ``<requirement>_server`` puts ``PLANTED`` there and gives the settings that reach them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pillion import registry
from pillion.errors import Invalid, NotFound
from pillion.kinds.component import Context
from pillion.kinds.secretstores import SecretStore
from pillion_conformance.plugin import Opener, Subject

pytestmark = pytest.mark.anyio

PLANTED = {
    "CONFORMANCE_PLAIN": "a plain value",
    "CONFORMANCE_ODD": 'quotes " and \\ and \u00e9 and $HOME',
    "CONFORMANCE_EMPTY": "",
}


@pytest.fixture(scope="session")
def secret_environment_server() -> Iterator[Mapping[str, str]]:
    """The environment of this process, with the planted secrets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PLANTED.items():
            patch.setenv(name, value)
        yield {}


@pytest.fixture(scope="session")
def secret_file_server(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A JSON file of the planted secrets."""
    path: Path = tmp_path_factory.mktemp("secrets") / "planted.json"
    path.write_text(json.dumps(PLANTED))
    return {"secretsFile": str(path)}


async def test_ping(open_component: Opener) -> None:
    """An open store can serve."""
    async with open_component() as store:
        assert isinstance(store, SecretStore)
        await store.ping()


@pytest.mark.parametrize("name", PLANTED)
async def test_get(open_component: Opener, name: str) -> None:
    """A secret of one value has it under its own name; metadata it does not know are no harm."""
    async with open_component() as store:
        assert await store.get(name, {}) == {name: PLANTED[name]}
        assert await store.get(name, {"unknown": "x"}) == {name: PLANTED[name]}


@pytest.mark.parametrize("name", ["CONFORMANCE_NONE", "", "conformance_plain", "a\x00b", "../x"])
async def test_missing(open_component: Opener, name: str) -> None:
    """A secret that is not there is NotFound, and no value is in the message."""
    async with open_component() as store:
        with pytest.raises(NotFound) as caught:
            await store.get(name, {})
        assert PLANTED["CONFORMANCE_PLAIN"] not in caught.value.message


async def test_bulk(open_component: Opener) -> None:
    """Every secret is in it as ``get`` gives it."""
    async with open_component() as store:
        every = await store.bulk({})
        for name, value in PLANTED.items():
            assert every[name] == {name: value}
        for name in list(every)[:50]:
            assert await store.get(name, {}) == every[name]


async def test_opened_twice(open_component: Opener) -> None:
    """Two open stores do not disturb each other."""
    async with open_component() as first:
        async with open_component() as second:
            assert await second.get("CONFORMANCE_PLAIN", {})
        assert await first.get("CONFORMANCE_PLAIN", {})


async def test_unknown_setting(
    subject: Subject, component_settings: Mapping[str, str], home: Path
) -> None:
    """A setting that the store does not have is refused by name."""
    settings = {**component_settings, "noSuchSetting": "1"}
    context = Context(name="subject", home=home, app_id="tester", settings=settings)
    with pytest.raises(Invalid, match="noSuchSetting"):
        async with subject.component.open(context):
            pass


def test_types() -> None:
    """The suite runs for both local stores at least."""
    assert {"secretstores.local.env", "secretstores.local.file"} <= set(
        registry.types("secretstores")
    )
