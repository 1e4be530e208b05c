"""The guide's code runs, and does what the guide says."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.unit.sdk.guide import GUIDE, code

from pillion_sdk.testing import TestClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[ModuleType]:
    """The code of the guide, imported as a module."""
    path = tmp_path / "guide_of_the_sdk.py"
    path.write_text(code())
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


TESTS = re.findall(r"^(?:async )?def (test_\w+)", code(), re.M)


@pytest.mark.parametrize("name", [name for name in TESTS if f"async def {name}" not in code()])
def test_its_plain_tests_pass(guide, name):
    """The tests the guide shows pass."""
    getattr(guide, name)()


@pytest.mark.parametrize("name", [name for name in TESTS if f"async def {name}" in code()])
async def test_its_async_tests_pass(guide, name):
    """The async tests the guide shows pass."""
    assert inspect.iscoroutinefunction(getattr(guide, name))
    await getattr(guide, name)()


async def test_what_it_says_about_the_first_app(guide):
    """The two curl calls of the guide are answered as printed there."""
    async with TestClient(guide.app) as client:
        for path in ("orders/7", "orders/x"):
            answer = (await client.get(path)).text
            assert f"/{path}\n{answer}\n" in GUIDE.read_text()


async def test_what_it_says_about_parameters(guide):
    """Query, header, defaults and constraints of the guide's example work."""
    async with TestClient(guide.app) as client:
        response = await client.get(
            "orders?since=2026-01-31&tag=new&tag=gift&sort=oldest", caller="checkout"
        )
        assert response.json() == {
            "since": "2026-01-31",
            "tags": ["new", "gift"],
            "sort": "oldest",
            "page size": 20,
            "language": "en",
            "caller": "checkout",
        }
        assert (await client.get("orders?page-size=101")).status == 400
        assert (await client.get("orders?sort=random")).status == 400


async def test_what_it_says_about_errors(guide):
    """The mapped exception and Retry-After of the guide are answered as described."""
    async with TestClient(guide.app) as client:
        response = await client.post("reserve/lamp")
        assert (response.status, response.json()["errorCode"]) == (409, "ERR_OUT_OF_STOCK")
        response = await client.post("reserve/chair")
        assert (response.status, response.headers["retry-after"]) == (429, "2")


async def test_what_it_says_about_streams(guide):
    """Upload, generator, events and relay of the guide stream."""

    async def parts():
        yield b"a" * 5_000_000
        yield b"b"

    async with TestClient(guide.app) as client:
        response = await client.put("files", data=parts())
        assert response.json() == {"sha256": hashlib.sha256(b"a" * 5_000_000 + b"b").hexdigest()}
        assert (await client.get("numbers/3")).text == "0\n1\n2\n"
        assert (await client.get("countdown")).text == "".join(
            f'event: tick\ndata: {{"left":{left}}}\n\n' for left in (3, 2, 1)
        )
        client.on_invoke("feed", "latest", reply=b"12345")
        assert (await client.get("relay")).json() == 5
