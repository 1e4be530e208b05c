"""Private files are whole or absent, whatever the umask, and locks die with their holder."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pillion.errors import Invalid, NotFound, Unavailable
from pillion.files import locked, make_private, read_private, sweep, write_private

ROOT = os.geteuid() == 0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    """Directories come out 0700 and files 0600 under every umask."""
    old = os.umask(umask)
    try:
        make_private(tmp_path / "folder")
        write_private(tmp_path / "folder" / "file", b"data")
        with locked(tmp_path / "folder" / "lock"):
            pass
    finally:
        os.umask(old)
    assert mode(tmp_path / "folder") == 0o700
    assert mode(tmp_path / "folder" / "file") == 0o600
    assert mode(tmp_path / "folder" / "lock") == 0o600


@pytest.mark.parametrize("found", [0o755, 0o750, 0o500, 0o711])
def test_a_readable_directory_is_tightened(tmp_path: Path, found: int) -> None:
    """A directory that others could only look into is made 0700."""
    path = tmp_path / "folder"
    path.mkdir()
    path.chmod(found)
    make_private(path)
    assert mode(path) == 0o700


@pytest.mark.parametrize("found", [0o777, 0o770, 0o702, 0o1777])
def test_a_writable_directory_is_refused(tmp_path: Path, found: int) -> None:
    """A directory that others could have written to is refused and left as it is."""
    path = tmp_path / "folder"
    path.mkdir()
    path.chmod(found)
    with pytest.raises(Invalid, match="chmod 700"):
        make_private(path)
    assert mode(path) == found


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    """Directories, links and files of another user are refused."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(ours)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    file = tmp_path / "file"
    file.write_bytes(b"data")
    os.chown(file, 65534, 65534)
    with pytest.raises(Invalid, match="65534"):
        make_private(theirs)
    with pytest.raises(Invalid, match="65534"):
        make_private(link)
    with pytest.raises(Invalid, match="65534"):
        read_private(file, 10)


def test_a_link_of_our_own_may_be_used(tmp_path: Path) -> None:
    """A directory may be a link that this user made."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make_private(tmp_path / "link")
    assert mode(tmp_path / "real") == 0o700


def test_something_in_the_way_is_named(tmp_path: Path) -> None:
    """A file, a dangling link or a missing parent is a failure of ours that names the path."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="file is not a directory"):
        make_private(tmp_path / "file")
    for path in (tmp_path / "dangling", tmp_path / "missing" / "folder", tmp_path / "file" / "x"):
        with pytest.raises(Unavailable, match=str(path)):
            make_private(path)


def test_writing_replaces_the_whole(tmp_path: Path) -> None:
    """A write replaces what was there and leaves nothing beside it."""
    path = tmp_path / "file"
    for data in (b"long content", b"", b"short"):
        write_private(path, data)
        assert read_private(path, 100) == data
    write_private(path, b"quick", durable=False)
    assert read_private(path, 100) == b"quick"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


FULL = """
import resource, signal, sys
from pathlib import Path
from pillion.errors import Unavailable
from pillion.files import write_private
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_private(Path(sys.argv[1]), b"x" * 5000)
except Unavailable as error:
    print(error)
"""


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    """When the disk takes only a part, the old content stays and no part is left behind."""
    path = tmp_path / "file"
    write_private(path, b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, check=True, text=True
    )
    assert str(path) in done.stdout
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_directory_in_the_way_of_a_file(tmp_path: Path) -> None:
    """A write onto a directory fails and leaves no temporary file."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable):
        write_private(tmp_path / "folder", b"data")
    with pytest.raises(Unavailable):
        write_private(tmp_path / "missing" / "file", b"data")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


WRITE = """
import sys
from pathlib import Path
from pillion.files import write_private
path, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    write_private(path, b"%d." % (number % 10) * 50_000)
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """A reader sees whole contents only, while a writer works and after it is killed."""
    path = tmp_path / "file"
    torn = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                if path.exists():
                    data = read_private(path, 1_000_000)
                    torn += len(data) != 100_000 or len(set(data)) != 2
            writer.kill()
    assert torn == 0
    data = read_private(path, 1_000_000)
    assert len(data) == 100_000
    assert len(set(data)) == 2
    sweep(tmp_path, older_than=0.0)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_sweeping_spares_the_young(tmp_path: Path) -> None:
    """Only old temporary files are swept; others may be another process's work of this moment."""
    for name in (".file.aa.tmp", ".old.bb.tmp", "file.json"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / ".old.bb.tmp", (1, 1))
    os.utime(tmp_path / "file.json", (1, 1))
    sweep(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {".file.aa.tmp", "file.json"}


def test_reading_tightens_and_has_a_limit(tmp_path: Path) -> None:
    """A file that others could read is made 0600; a missing or too large one is refused."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    path.chmod(0o644)
    assert read_private(path, 5) == b"12345"
    assert mode(path) == 0o600
    with pytest.raises(Invalid, match="larger than 4 bytes"):
        read_private(path, 4)
    with pytest.raises(NotFound):
        read_private(tmp_path / "missing", 4)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe does not hang the reader, and a link or a directory is not followed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(Invalid, match=name):
            read_private(tmp_path / name, 10)
    with pytest.raises(Unavailable, match="link"):
        read_private(tmp_path / "link", 10)


HOLD = """
import sys, time
from pathlib import Path
from pillion.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_others_out_until_its_holder_is_killed(tmp_path: Path) -> None:
    """The second one waits and is told who is in the way; the kernel frees a dead one's lock."""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable, match="another process"), locked(path, timeout=0.05):
            pass
        other.send_signal(signal.SIGKILL)
    with locked(path, timeout=1.0):
        pass
    with locked(path, timeout=1.0):
        pass
