"""Secrets from a file: how it is flattened, what is wrong with it, and that changes are seen."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from pillion.errors import Invalid, NotFound, Unavailable
from pillion.kinds.component import Context
from pillion_components.secretstores.local_file import LARGEST, LocalFileSecretStore

pytestmark = pytest.mark.anyio

CONTENT = {
    "plain": "p",
    "redis": {"password": "x", "hosts": ["a", {"name": "b"}]},
    "port": 6379,
    "share": 1.50,
    "on": True,
    "off": False,
    "nothing": None,
}


def context(path: Path | str, **settings: str) -> Context:
    settings = {"secretsFile": str(path), **settings}
    return Context(name="vault", home=Path("/nowhere"), app_id="orders", settings=settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps(CONTENT))
    return path


async def test_nested_keys(file: Path) -> None:
    """Objects and lists are flattened with ``:``; values are texts; null is no secret."""
    async with LocalFileSecretStore.open(context(file)) as store:
        assert {name: dict(values) for name, values in (await store.bulk({})).items()} == {
            "plain": {"plain": "p"},
            "redis:password": {"redis:password": "x"},
            "redis:hosts:0": {"redis:hosts:0": "a"},
            "redis:hosts:1:name": {"redis:hosts:1:name": "b"},
            "port": {"port": "6379"},
            "share": {"share": "1.5"},
            "on": {"on": "true"},
            "off": {"off": "false"},
        }
        with pytest.raises(NotFound, match="redis not found"):
            await store.get("redis", {})


async def test_nested_separator(file: Path) -> None:
    """Another separator may be asked for; an empty one is the default."""
    async with LocalFileSecretStore.open(context(file, nestedSeparator=".")) as store:
        assert await store.get("redis.hosts.1.name", {}) == {"redis.hosts.1.name": "b"}
    async with LocalFileSecretStore.open(context(file, nestedSeparator="")) as store:
        assert await store.get("redis:password", {}) == {"redis:password": "x"}


async def test_multi_valued(file: Path) -> None:
    """The first level are the secrets, and what is below are their values."""
    async with LocalFileSecretStore.open(context(file, multiValued="true")) as store:
        assert await store.get("redis", {}) == {
            "password": "x",
            "hosts:0": "a",
            "hosts:1:name": "b",
        }
        assert await store.get("plain", {}) == {"plain": "p"}
        assert await store.get("port", {}) == {"port": "6379"}
        with pytest.raises(NotFound):
            await store.get("nothing", {})


async def test_relative_path(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It starts where the runtime was started, and stays there."""
    monkeypatch.chdir(tmp_path)
    async with LocalFileSecretStore.open(context("secrets.json")) as store:
        monkeypatch.chdir("/")
        file.write_text('{"plain": "changed"}')
        assert await store.get("plain", {}) == {"plain": "changed"}


async def test_changes_are_seen(file: Path) -> None:
    """A file that is replaced or rewritten is read again, by all who ask at once."""
    async with LocalFileSecretStore.open(context(file)) as store:
        new = file.with_suffix(".new")
        new.write_text('{"plain": "q"}')
        new.replace(file)
        answers = await asyncio.gather(*(store.get("plain", {}) for _ in range(5)))
        assert answers == [{"plain": "q"}] * 5
        file.write_text('{"plain": "longer"}')
        assert await store.get("plain", {}) == {"plain": "longer"}


async def test_file_that_breaks_later(file: Path) -> None:
    """A damaged or missing file is an error while it lasts, and no old value is given."""
    async with LocalFileSecretStore.open(context(file)) as store:
        file.write_text("{")
        with pytest.raises(Unavailable):
            await store.get("plain", {})
        file.unlink()
        with pytest.raises(Unavailable, match="No such file"):
            await store.ping()
        file.write_text('{"plain": "back"}')
        assert await store.get("plain", {}) == {"plain": "back"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1 column 1"),
        (b'{\n"password": "hunter2",\n}', "line 3 column 1"),
        (b'["hunter2"]', "not an object"),
        (b'"hunter2"', "not an object"),
        (b'{"a": "hunter2", "a": "hunter2"}', 'the name "a" twice'),
        (b'{"a:b": "hunter2", "a": {"b": "x"}}', 'the secret "a:b"'),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": "hunter2\xff"}', "UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b" " * (LARGEST + 1), "larger than"),
    ],
    ids=map(str, range(10)),
)  # fmt: skip
async def test_damaged_files(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that is wrong does not open; the message has the place and no secret."""
    path = tmp_path / "secrets.json"
    path.write_bytes(content)
    with pytest.raises(Unavailable, match=r"secrets\.json cannot be used") as caught:
        async with LocalFileSecretStore.open(context(path)):
            pass
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message


async def test_byte_order_mark(tmp_path: Path) -> None:
    """The mark that some editors write is no mistake."""
    path = tmp_path / "secrets.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": "b"}')
    async with LocalFileSecretStore.open(context(path)) as store:
        assert await store.get("a", {}) == {"a": "b"}


@pytest.mark.parametrize("path", ["missing.json", "."])
async def test_files_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    """A missing file and a folder are named with the reason."""
    with pytest.raises(Unavailable, match=r"No such file|Is a directory"):
        async with LocalFileSecretStore.open(context(tmp_path / path)):
            pass


async def test_no_file_said() -> None:
    """The setting must be there."""
    for settings in ({}, {"secretsFile": " "}):
        one = Context(name="vault", home=Path("/x"), app_id="a", settings=settings)
        with pytest.raises(Invalid, match="secretsFile"):
            async with LocalFileSecretStore.open(one):
                pass


async def test_same_size_and_time(file: Path) -> None:
    """A file that is replaced by one of the same size and time is noticed by its inode."""
    async with LocalFileSecretStore.open(context(file)) as store:
        status = file.stat()
        new = file.with_suffix(".new")
        new.write_text(file.read_text().replace('"p"', '"q"'))
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
        new.replace(file)
        assert await store.get("plain", {}) == {"plain": "q"}
