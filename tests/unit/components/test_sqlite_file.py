"""Opening an SQLite file that may be new, old, foreign, locked or damaged."""

from __future__ import annotations

import fcntl
import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pillion.errors import Unavailable
from pillion_components import _sqlite_file
from pillion_components._sqlite_file import Connections, DatabaseFile, Schema

SCHEMA = Schema(
    what="test store",
    application_id=0x54455354,
    steps=(
        ("CREATE TABLE item (value TEXT)", "INSERT INTO item VALUES ('step one')"),
        ("INSERT INTO item VALUES ('step two')",),
    ),
    rebuildable=True,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@contextmanager
def opened(path: Path, schema: Schema = SCHEMA) -> Iterator[Connections]:
    file = DatabaseFile(path, schema)
    connections = file.connect()
    try:
        yield connections
    finally:
        file.disconnect(connections)


def values(connections: Connections) -> list[str]:
    return [value for (value,) in connections.reader.execute("SELECT value FROM item")]


def filled(path: Path) -> None:
    with opened(path) as connections:
        connections.writer.execute("BEGIN")
        for _ in range(2000):
            connections.writer.execute("INSERT INTO item VALUES (hex(randomblob(50)))")
        connections.writer.execute("COMMIT")


def test_new_file_gets_every_step(path: Path) -> None:
    """All steps run once, and opening again changes nothing."""
    for _ in range(2):
        with opened(path) as connections:
            assert values(connections) == ["step one", "step two"]


def test_older_file_is_upgraded(path: Path) -> None:
    """Only the missing steps run."""
    with opened(path, replace(SCHEMA, steps=SCHEMA.steps[:1])) as connections:
        connections.writer.execute("UPDATE item SET value = 'kept'")
    with opened(path) as connections:
        assert values(connections) == ["kept", "step two"]


def test_failed_upgrade_changes_nothing(path: Path) -> None:
    """A step that fails takes the whole upgrade with it."""
    with opened(path, replace(SCHEMA, steps=SCHEMA.steps[:1])):
        pass
    broken = replace(SCHEMA, steps=(*SCHEMA.steps, ("INSERT INTO nowhere VALUES (1)",)))
    with pytest.raises(Unavailable, match="nowhere"), opened(path, broken):
        pass
    with opened(path, replace(SCHEMA, steps=SCHEMA.steps[:1])) as connections:
        assert values(connections) == ["step one"]


def test_newer_file_is_refused(path: Path) -> None:
    """A file of a later version is neither read nor set aside."""
    with opened(path):
        pass
    with (
        pytest.raises(Unavailable, match=r"newer Pillion \(format 2, this one knows 1\)") as caught,
        opened(path, replace(SCHEMA, steps=SCHEMA.steps[:1])),
    ):
        pass
    assert caught.value.reason == "newer-format"
    with opened(path) as connections:
        assert values(connections) == ["step one", "step two"]


def test_foreign_file_is_refused(path: Path) -> None:
    """Somebody else's SQLite file is left as it was, not even switched to WAL."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="another program") as caught, opened(path):
        pass
    assert caught.value.reason == "foreign-file"
    assert path.read_bytes() == before


def garbage(path: Path) -> None:
    path.write_bytes(b"this was never a database\n" * 400)


def truncated(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.truncate(20_000)


def overwritten(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)


damages = pytest.mark.parametrize("damage", [garbage, truncated, overwritten])


@damages
def test_damaged_file_is_set_aside(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """What can be rebuilt starts anew; the damaged file is kept, with one line that says so."""
    damage(path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING), opened(path) as connections:
        assert values(connections) == ["step one", "step two"]
    (aside,) = path.parent.glob("test.db.corrupt-*Z-????")
    assert aside.read_bytes() == before
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert aside.name in caplog.text


@pytest.mark.parametrize("damage", [garbage, truncated])
def test_damaged_file_that_matters_is_refused(path: Path, damage: Callable[[Path], None]) -> None:
    """What cannot be rebuilt stays where it is, and the error says what to do."""
    damage(path)
    before = path.read_bytes()
    precious = replace(SCHEMA, rebuildable=False)
    with pytest.raises(Unavailable, match="is damaged") as caught:
        DatabaseFile(path, precious).connect()
    assert caught.value.reason == "corrupt"
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_damage_found_by_many_is_repaired_once(path: Path) -> None:
    """Openers at one time set the file aside once and all use the same new one."""
    garbage(path)
    file = DatabaseFile(path, SCHEMA)
    with ThreadPoolExecutor(8) as pool:
        connections = list(pool.map(lambda _: file.connect(), range(8)))
    assert len(list(path.parent.glob("test.db.corrupt-*"))) == 1
    assert len({one.identity for one in connections}) == 1
    connections[0].writer.execute("INSERT INTO item VALUES ('shared')")
    assert all("shared" in values(one) for one in connections)
    for one in connections:
        file.disconnect(one)


def test_few_damaged_files_are_kept(path: Path) -> None:
    """The folder does not fill up with what was set aside."""
    for _ in range(5):
        garbage(path)
        with opened(path):
            pass
    assert len(list(path.parent.glob("test.db.corrupt-*"))) == 3


def test_closing_an_old_file_spares_the_new_one(path: Path) -> None:
    """The log of the file that has the path now is not deleted by who held the one before."""
    file = DatabaseFile(path, SCHEMA)
    old = file.connect()
    old.writer.execute("INSERT INTO item VALUES ('old')")
    path.rename(path.with_name("elsewhere"))
    Path(f"{path}-wal").unlink()
    Path(f"{path}-shm").unlink()
    new = file.connect()
    new.writer.execute("INSERT INTO item VALUES ('new')")
    file.disconnect(old)
    assert Path(f"{path}-wal").exists()
    with opened(path) as third:
        assert "new" in values(third)
        assert "old" not in values(third)
    file.disconnect(new)


def test_file_held_exclusively_is_refused_in_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock at the start is a clear error and no reason to set the file aside."""
    monkeypatch.setattr(_sqlite_file, "BUSY_TIMEOUT", 0.1)
    with opened(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("INSERT INTO item VALUES ('held')")
        with pytest.raises(Unavailable, match="is locked by another process") as caught:
            DatabaseFile(path, SCHEMA).connect()
    assert caught.value.reason == "locked"
    with opened(path) as connections:
        assert "held" in values(connections)


def test_opening_by_a_process_that_hangs_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the opening lock for too long is named by its lock file."""
    monkeypatch.setattr(_sqlite_file, "OPEN_TIMEOUT", 0.1)
    with path.with_name("test.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"test\.db\.lock") as caught:
            DatabaseFile(path, SCHEMA).connect()
    assert caught.value.reason == "locked"
    with opened(path):
        pass


def test_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is a clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot create the folder"):
        DatabaseFile(tmp_path / "file" / "home" / "test.db", SCHEMA).connect()
    with pytest.raises(Unavailable, match="Not a directory"):
        DatabaseFile(tmp_path / "file" / "test.db", SCHEMA).connect()
