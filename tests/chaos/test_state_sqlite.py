"""The embedded state store killed, raced, without space, or given a broken file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.chaos.state_writer import value_of

from pillion.errors import Failure, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Put, Remove
from pillion_components.state.sqlite import SqliteState
from pillion_conformance.peers import Peer, together

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
TYPE = "state.sqlite"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@asynccontextmanager
async def opened(home: Path, **settings: str) -> AsyncIterator[SqliteState]:
    context = Context(name="statestore", home=home, app_id="tester", settings=settings)
    async with SqliteState.open(context) as store:
        yield store


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.state_writer", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2500, 7500])
async def test_killed_while_saving_loses_no_acknowledged_key(home: Path, after: int) -> None:
    """SIGKILL in the middle of 10,000 concurrent saves: every acknowledged key reads back."""

    def flood() -> list[int]:
        with start("flood", str(home), "10000") as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(after)]
            process.kill()
            rest = process.stdout.read().split(b"\n")[:-1]  # the last line may be cut off
            return acknowledged + [int(line) for line in rest]

    acknowledged = await asyncio.to_thread(flood)
    assert after <= len(acknowledged) < 10_000
    async with opened(home) as store:
        items = await store.get_many([f"key-{number}" for number in acknowledged])
        for number, item in zip(acknowledged, items, strict=True):
            assert item is not None, f"key-{number} was acknowledged and is lost"
            assert item.value == value_of(number)
        await store.write(Put("after", b"1"))
    with closing(sqlite3.connect(home / "state.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
async def test_ten_thousand_first_writes_have_one_winner_each(home: Path) -> None:
    """Two processes create the same 10,000 keys at the same time; each is created once."""
    count = 10_000
    peers = [
        await Peer.start(
            TYPE, home, {}, "first_writes", prefix="k", name=name, rival=rival, count=count
        )
        for name, rival in (("a", "b"), ("b", "a"))
    ]
    first, second = await together(*peers)
    assert first, "one process was never there, so the test has shown nothing"
    assert second, "one process was never there, so the test has shown nothing"
    assert len(first) + len(second) == count
    assert sorted(first + second) == list(range(count))
    winners = set(first)
    async with opened(home) as store:
        items = await store.get_many([f"k{number}" for number in range(count)])
    for number, item in enumerate(items):
        assert item is not None
        assert item.value == (b"a" if number in winners else b"b")


@pytest.mark.slow
async def test_processes_that_write_by_tag_have_one_winner_each_time(home: Path) -> None:
    """Three processes add one to the same number by its tag; no addition is lost or made twice."""
    async with opened(home) as store:
        await store.write(Put("number", b"0"))
        peers = [
            await Peer.start(TYPE, home, {}, "increments", key="number", count=1000)
            for _ in range(3)
        ]
        lost = await together(*peers)
        item = await store.get("number")
    assert item is not None
    assert int(item.value) == 3000
    assert sum(lost) > 0, "the processes never met, so the test has shown nothing"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        made = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_full_disk_is_an_error_until_there_is_space(small_disk: Path) -> None:
    """Writes fail with the reason, reads go on, and with space again the same store writes."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    async with opened(small_disk / "home") as store:
        saved = 0

        async def fill() -> None:
            nonlocal saved
            while True:
                await store.write(Put(f"key-{saved}", os.urandom(8192)))
                saved += 1

        with pytest.raises(Unavailable) as raised:
            await fill()
        assert raised.value.reason == "disk-full"
        assert saved > 0
        outcomes = await asyncio.gather(
            *(store.write(Put(f"more-{number}", bytes(8192))) for number in range(20)),
            return_exceptions=True,
        )
        assert all(one is None or isinstance(one, Unavailable) for one in outcomes)
        for number in range(saved):
            assert await store.get(f"key-{number}") is not None
        ballast.unlink()
        await store.write(Put("after", b"1"))
        await store.write(Remove("key-0"))
        await store.ping()
    async with opened(small_disk / "home") as store:
        assert await store.get("after") is not None
        assert await store.get("key-0") is None
        for number in range(1, saved):
            assert await store.get(f"key-{number}") is not None


async def test_file_at_its_size_limit_is_an_error_until_it_may_grow(home: Path) -> None:
    """The same with a limit on file sizes, which the system reports in another way."""

    def run() -> bytes:
        with start("limited", str(home)) as process:
            answer, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            return answer

    told = json.loads(await asyncio.to_thread(run))
    assert told["saved"] > 0
    assert told["readable"]
    assert told["kept"]


# Broken files.


async def filled(home: Path, count: int = 400) -> Path:
    async with opened(home) as store:
        await store.write_many([Put(f"key-{number}", bytes(1000)) for number in range(count)])
    return home / "state.db"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", ["header", "garbage", "short"])
async def test_damaged_file_is_reported_and_left_alone(home: Path, damage: str) -> None:
    """Opening says that the file is damaged; nothing is recreated, and a restored copy works."""
    path = await filled(home)
    whole = path.read_bytes()
    broken = {
        "header": b"\0" * 100 + whole[100:],
        "garbage": b"\xa5" * len(whole),
        "short": whole[:6000],
    }[damage]
    path.write_bytes(broken)
    before = digest(path)

    async def read_all() -> None:
        async with opened(home) as store:
            for number in range(400):
                await store.get(f"key-{number}")

    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            await read_all()
        assert raised.value.reason == "corrupt"
        assert str(path) in raised.value.message
    assert digest(path) == before
    assert not list(home.glob("*corrupt*"))
    path.write_bytes(whole)
    async with opened(home) as store:
        assert await store.get("key-399") is not None


async def test_damaged_page_is_reported_by_who_meets_it(home: Path) -> None:
    """Garbage in the middle of the file fails the reads that meet it, never with a wrong value."""
    path = await filled(home)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2 // 4096 * 4096
    whole[middle : middle + 8192] = b"\xa5" * 8192
    path.write_bytes(whole)
    reasons = set()
    async with opened(home) as store:
        for number in range(400):
            try:
                item = await store.get(f"key-{number}")
            except Failure as failure:
                reasons.add(failure.reason)
            else:
                assert item is not None
                assert item.value == bytes(1000)
    assert reasons == {"corrupt"}
    assert not list(home.glob("*corrupt*"))


async def test_file_held_by_another_process_fails_writes_in_time_and_heals(home: Path) -> None:
    """While another process holds the write lock, reads go on and writes fail within their time."""
    async with opened(home, busyTimeout="200ms") as store:
        await store.write(Put("key", b"1"))
        with closing(sqlite3.connect(home / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(5.0):
                with pytest.raises(Unavailable) as raised:
                    await store.write(Put("key", b"2"))
            assert raised.value.reason == "locked"
            item = await store.get("key")
            assert item is not None
            assert item.value == b"1"
        await store.write(Put("key", b"3"))
