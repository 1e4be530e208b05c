"""The bell that wakes processes: heard, merged, mended, and quiet when nobody is there."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pillion.errors import Unavailable
from pillion_components import _doorbell
from pillion_components._doorbell import Doorbell, Listener
from pillion_components._folders import make_private, require_private

pytestmark = pytest.mark.anyio


class Ear:
    """Counts what a listener hears."""

    def __init__(self) -> None:
        self.count = 0
        self._rung = asyncio.Event()

    def hear(self) -> None:
        self.count += 1
        self._rung.set()

    async def once(self) -> None:
        async with asyncio.timeout(5.0):
            await self._rung.wait()
        self._rung.clear()


@asynccontextmanager
async def listening(bell: Doorbell) -> AsyncIterator[tuple[Ear, Listener]]:
    ear = Ear()
    with bell.listen(ear.hear) as listener:
        yield ear, listener


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bell"


async def test_everyone_who_listens_hears(folder: Path) -> None:
    """One ring reaches each listener once, those of the ringing process too."""
    ringer = Doorbell(folder)
    async with listening(Doorbell(folder)) as (first, _), listening(ringer) as (second, _):
        ringer.ring()
        await first.once()
        await second.once()
        assert (first.count, second.count) == (1, 1)
    ringer.close()


async def test_ring_from_another_process_is_heard(folder: Path) -> None:
    """The bell works between processes."""
    program = (
        "import sys; from pathlib import Path; from pillion_components._doorbell import Doorbell; "
        "Doorbell(Path(sys.argv[1])).ring()"
    )
    async with listening(Doorbell(folder)) as (ear, _):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(folder))
        await ear.once()
        assert await child.wait() == 0


async def test_rings_merge_and_never_wait(folder: Path) -> None:
    """A listener that does not read costs the ringer nothing, and hears that there was a ring."""
    bell = Doorbell(folder)
    async with listening(bell) as (ear, _):
        for _ in range(10_000):
            bell.ring()
        await ear.once()
        assert ear.count < 100
        heard = ear.count
        bell.ring()
        await ear.once()
        assert ear.count > heard
    bell.close()


async def test_ring_from_a_thread_is_heard(folder: Path) -> None:
    """Writers commit in threads and ring from there."""
    bell = Doorbell(folder)
    async with listening(bell) as (ear, _):
        thread = threading.Thread(target=bell.ring)
        thread.start()
        await ear.once()
        thread.join()
    bell.close()


async def test_sockets_of_killed_processes_are_removed(folder: Path) -> None:
    """A socket that nobody reads any more disappears with the next ring."""
    bell = Doorbell(folder)
    async with listening(bell) as (ear, _):
        stale = folder / "1-dead"
        left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.bind(str(stale))
        left.close()
        assert stale.exists()
        bell.ring()
        await ear.once()
        assert not stale.exists()
        assert len(list(folder.iterdir())) == 1
    bell.close()


async def test_closed_listener_leaves_nothing(folder: Path) -> None:
    """Closing removes the socket, twice is harmless, and ringing an empty folder too."""
    bell = Doorbell(folder)
    bell.ring()
    async with listening(bell) as (ear, listener):
        listener.close()
        listener.close()
        bell.ring()
        assert list(folder.iterdir()) == []
    assert ear.count == 0
    bell.close()


async def test_deleted_socket_is_mended(folder: Path) -> None:
    """A listener whose file was deleted hears again after it looked."""
    bell = Doorbell(folder)
    async with listening(bell) as (ear, listener):
        listener.mend()
        (socket_file,) = folder.iterdir()
        socket_file.unlink()
        folder.rmdir()
        listener.mend()
        bell.ring()
        await ear.once()
    bell.close()


async def test_only_the_user_can_reach_it(folder: Path) -> None:
    """The folder is 0700 and the socket 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        async with listening(Doorbell(folder)):
            (socket_file,) = folder.iterdir()
            assert folder.stat().st_mode & 0o777 == 0o700
            assert socket_file.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/fd")
async def test_long_path_is_reached_by_descriptor(tmp_path: Path) -> None:
    """Where a socket address has no room for the path, Linux still keeps sockets in the folder."""
    long = tmp_path / ("x" * 100)
    bell = Doorbell(long)
    async with listening(Doorbell(long)) as (ear, _):
        assert len(list(long.iterdir())) == 1
        stale = long / "1-dead"
        stale.touch()
        bell.ring()
        await ear.once()
        assert not stale.exists()
    assert list(long.iterdir()) == []
    bell.close()


async def test_long_path_borrows_a_short_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On other systems listeners meet in a private folder elsewhere, whatever TMPDIR says."""
    monkeypatch.setattr(_doorbell, "_FD_LINKS", tmp_path / "no-such-thing")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    long = tmp_path / ("x" * 100)
    bell = Doorbell(long)
    other = Doorbell(long)
    async with listening(other) as (ear, _):
        assert not long.exists()
        assert bell.folder.parent.name == f"pillion-{os.geteuid()}"
        assert bell.folder.stat().st_mode & 0o777 == 0o700
        assert Doorbell(tmp_path / ("y" * 100)).folder != bell.folder
        bell.ring()
        await ear.once()
    assert not bell.folder.exists()
    bell.close()


def test_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    """A borrowed folder that another user could have made, or a link to one, is not trusted."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for path in (shared, link):
        with pytest.raises(Unavailable, match="not private"):
            require_private(path)
    shared.chmod(0o700)
    require_private(shared)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way is a clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot create the folder"):
        make_private(tmp_path / "file" / "below")


def test_import_is_light() -> None:
    """The bell brings in nothing that a starting process would wait for."""
    program = "import sys, pillion_components._doorbell; print('pydantic' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout.strip() == b"False"
