"""The home is one user's alone, and its run files tell the living from the dead."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillion.errors import Invalid, Unavailable
from pillion.home import Home, RunFile, forget, process_start, record, running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh home."""
    return Home.locate(tmp_path / "home")


def run_file(instance: str = "1", pid: int | None = None, **more: object) -> RunFile:
    pid = os.getpid() if pid is None else pid
    given = {
        "app_id": "orders",
        "instance_id": instance,
        "pid": pid,
        "started": process_start(pid) or "",
        "created": time.time(),
    }
    return RunFile(**{**given, **more})  # type: ignore[arg-type]


def test_where_the_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given wins over PILLION_HOME, which wins over ~/.pillion."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PILLION_HOME", "")
    assert Home.locate().path == tmp_path / "user" / ".pillion"
    monkeypatch.setenv("PILLION_HOME", "~/from-env")
    assert Home.locate().path == tmp_path / "user" / "from-env"
    assert Home.locate(tmp_path / "given" / "x" / ".." / "home").path == tmp_path / "given" / "home"
    monkeypatch.chdir(tmp_path)
    assert Home.locate(Path("relative")).path == tmp_path / "relative"
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_home_open_to_others(tmp_path: Path) -> None:
    """A home that others can read is tightened; one they can write to is refused."""
    path = tmp_path / "home"
    path.mkdir()
    path.chmod(0o755)
    Home.locate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o775)
    with pytest.raises(Invalid, match=f"chmod 700 {path}"):
        Home.locate(path)
    path.chmod(0o700)
    (path / "file").write_bytes(b"")
    with pytest.raises(Invalid, match="not a directory"):
        Home.locate(path / "file")
    with pytest.raises((Invalid, Unavailable)):
        Home.locate(path / "file" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    """A home that belongs to somebody else is refused, with what to do."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(Invalid, match=r"65534.*set PILLION_HOME"):
        Home.locate(path)


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_nothing_leaves_the_home(home: Home, part: str) -> None:
    """Neither directories nor files can be made outside, however they are called."""
    with pytest.raises(Invalid):
        home.directory("run", part)
    for path in (Path("/etc/x"), Path("../x"), Path("run/../../x")):
        with pytest.raises(Invalid):
            home.write_private(path, b"")
        with pytest.raises(Invalid):
            home.read_private(path, 10)


def test_directories_and_files(home: Home) -> None:
    """Directories nest, and files are written and read by relative or absolute path."""
    assert home.directory("a", "b") == home.path / "a" / "b"
    home.write_private(Path("a/b/file"), b"data")
    assert home.read_private(home.path / "a" / "b" / "file", 10) == b"data"
    with home.locked(home.path / "a" / "lock"):
        assert (home.path / "a" / "lock").exists()


def test_importing_is_cheap() -> None:
    """The home pulls in none of the heavy libraries."""
    heavy = "pydantic cryptography msgspec tempfile hashlib subprocess asyncio"
    code = f"import sys, pillion.home; print([n for n in {heavy.split()!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def bindable(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / ("s" * 40)))
    (folder / ("s" * 40)).unlink()


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path, as the tests' own temporary directories do not have."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="p") as folder:
        yield Path(folder)


def test_sockets_below_a_short_home(short: Path) -> None:
    """A home with a short path keeps its sockets itself, and a name of 40 bytes fits."""
    home = Home.locate(short)
    assert home.sockets() == short / "sockets"
    bindable(home.sockets())


def test_sockets_of_a_long_home(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each home with a long path gets a private place of its own in the temporary directory."""
    monkeypatch.setattr("tempfile.tempdir", str(short))
    homes = [Home.locate(tmp_path / ("x" * 90) / name) for name in ("one", "two")]
    places = [each.sockets() for each in homes]
    assert places == [each.sockets() for each in homes]
    assert places[0] != places[1]
    for place in places:
        assert place.parent == short
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        bindable(place)
    places[0].chmod(0o777)
    with pytest.raises(Invalid):
        homes[0].sockets()


def test_sockets_when_the_temporary_directory_is_long_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a long TMPDIR, as macOS has one, the sockets still get a place that fits."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("y" * 60)))
    place = Home.locate(tmp_path / ("x" * 90)).sockets()
    try:
        bindable(place)
    finally:
        place.rmdir()


def test_run_files(home: Home) -> None:
    """What is recorded is listed, oldest first, replaced, and forgotten, in private files."""
    one = run_file("1", created=2.0, http_port=3500)
    two = run_file("2", created=1.0, command="python app.py", run_template="dapr.yaml")
    record(home, one)
    record(home, two)
    assert running(home) == [two, one]
    for path in (home.path / "run").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    changed = dataclasses.replace(one, app_pid=7)
    record(home, changed)
    assert running(home) == [two, changed]
    forget(home, one)
    forget(home, one)
    assert running(home) == [two]


def test_the_killed_are_cleaned_up(home: Home) -> None:
    """A killed runtime's file is dropped and deleted by whoever looks next."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        record(home, run_file("1"))
        record(home, run_file("2", child.pid))
        assert len(running(home)) == 2
        child.kill()
    assert [each.instance_id for each in running(home)] == ["1"]
    assert [path.name for path in (home.path / "run").iterdir()] == ["orders-1.json"]


def test_a_reused_process_id_is_recognised(home: Home) -> None:
    """A file whose number belongs to another process by now is stale."""
    mark = process_start(os.getpid())
    assert mark
    place, _, ticks = mark.rpartition("/")
    record(home, run_file("1", started=f"{place}/{int(ticks) - 100}"))
    record(home, run_file("2", started=""))
    assert running(home) == []
    assert list((home.path / "run").iterdir()) == []


def test_files_of_another_container_are_left_alone(home: Home) -> None:
    """A file written in another process id namespace is neither listed nor deleted."""
    mark = process_start(os.getpid())
    assert mark
    boot, _, ticks = mark.split("/")
    record(home, run_file("1", started=f"{boot}/pid:[1]/{ticks}"))
    assert running(home) == []
    assert len(list((home.path / "run").iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"app_id": "orders"}',
        b'{"app_id": 1, "instance_id": "1", "pid": 1, "started": "x"}',
        b'{"app_id": "orders", "instance_id": "1", "pid": "1", "started": "x"}',
        b"[" * 60_000,
        b" " * 70_000,
    ],
    ids=range(10),
)
def test_damaged_run_files_are_dropped(
    home: Home, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that makes no sense is logged and deleted, and hides nobody."""
    good = run_file("2")
    record(home, good)
    bad = home.path / "run" / "orders-1.json"
    bad.write_bytes(content)
    with caplog.at_level(logging.WARNING, "pillion.home"):
        assert running(home) == [good]
    assert not bad.exists()
    assert len(caplog.records) == 1
    assert str(bad) in caplog.text


def test_odd_things_among_the_run_files(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """Directories, links, pipes and other names do not stop the listing."""
    good = run_file("2")
    record(home, good)
    folder = home.path / "run"
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "link.json").symlink_to("/etc/passwd")
    (folder / "notes.txt").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "pillion.home"):
        assert running(home) == [good]
    assert len(caplog.records) == 3


def test_fields_of_a_later_version_are_ignored(home: Home) -> None:
    """A run file with more fields than we know is still read."""
    good = run_file("1")
    record(home, good)
    path = home.path / "run" / "orders-1.json"
    path.write_bytes(path.read_bytes()[:-1] + b', "later": {"a": 1}}')
    assert running(home) == [good]


@pytest.mark.parametrize("name", ["../x", "a/b", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(home: Home, name: str) -> None:
    """An app id cannot place its run file outside the folder."""
    with pytest.raises(Invalid):
        record(home, run_file("1", app_id=name))


def test_two_homes_never_meet(tmp_path: Path) -> None:
    """Runtimes of one home are not listed in another."""
    one, other = Home.locate(tmp_path / "one"), Home.locate(tmp_path / "other")
    record(one, run_file("1"))
    assert len(running(one)) == 1
    assert running(other) == []
