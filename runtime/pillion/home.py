"""``$PILLION_HOME``: the folder of one user's runtimes on one machine, and who runs there.

Everything here blocks for the disk: call it before the event loop starts, or in a thread.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from pillion import files
from pillion.errors import Invalid, NotFound, Unavailable
from pillion.process import process_start, same_process

__all__ = ["Home", "RunFile", "forget", "process_start", "record", "running"]

log = logging.getLogger("pillion.home")

SOCKET_PATH_LIMIT = 103
"""Bytes in the path of a Unix socket: 107 on Linux, 103 on macOS (``sun_path`` less its NUL)."""

SOCKET_NAME_LIMIT = 40
"""Bytes that :meth:`Home.sockets` leaves for the name of a socket."""

RUN_FILE_LIMIT = 64 * 1024
"""Bytes in one run file."""


class Home:
    """The folder; every file of ours lies below :attr:`path`, which is absolute."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def locate(cls, given: Path | None = None) -> Home:
        """Return the home, created when it is missing: ``given``, $PILLION_HOME or ~/.pillion.

        Raises:
            Invalid: it is not a directory, belongs to another user or others may write to it.
            Unavailable: it cannot be created.
        """
        path = _chosen(given)
        for parent in reversed(path.parents):
            if not os.path.lexists(parent):
                files.make_private(parent)
        files.make_private(path)
        return cls(path)

    def directory(self, *parts: str) -> Path:
        """Return the directory ``parts`` below the home, created when it is missing.

        Raises:
            Invalid: a part is not a plain name, or what is there is not ours alone.
            Unavailable: it cannot be created.
        """
        path = self.path
        for part in parts:
            path /= _plain(part)
            files.make_private(path)
        return path

    def write_private(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Put ``data`` in place of ``path``, whole or not at all, readable by this user alone.

        Args:
            path: a file below the home, absolute or relative to it; its directory exists.
            data: the whole new content.
            durable: survive a power failure too; False for files that mean nothing after one.

        Raises:
            Invalid: the path is not below the home.
            Unavailable: it cannot be written; what was there before is untouched.
        """
        files.write_private(self._inside(path), data, durable=durable)

    def read_private(self, path: Path, limit: int) -> bytes:
        """Return the content of ``path``, at most ``limit`` bytes, and tighten its mode.

        Raises:
            NotFound: there is no such file.
            Invalid: it is too large, not a regular file, belongs to another user or is not below
                the home.
            Unavailable: it cannot be read.
        """
        return files.read_private(self._inside(path), limit)

    def locked(
        self, path: Path, timeout: float = files.LOCK_TIMEOUT
    ) -> AbstractContextManager[None]:
        """Hold the lock file ``path`` below the home; see :func:`pillion.files.locked`."""
        return files.locked(self._inside(path), timeout)

    def sockets(self) -> Path:
        """Return a directory whose path leaves room for a Unix socket's name.

        It lies below the home, or in the temporary directory when the home's path is too long;
        then it is this user's and this home's alone.

        Raises:
            Invalid: what is there is not ours alone.
            Unavailable: it cannot be created.
        """
        if _fits(self.path / "sockets"):
            return self.directory("sockets")
        import hashlib
        import tempfile

        mark = hashlib.sha256(os.path.realpath(os.fsencode(self.path))).hexdigest()[:16]
        name = f"pillion-{os.geteuid()}-{mark}"
        path = Path(tempfile.gettempdir()) / name
        if not _fits(path):
            path = Path("/tmp") / name  # noqa: S108 - its owner is checked
        files.make_private(path)
        return path

    def _inside(self, path: Path) -> Path:
        joined = self.path / path
        if ".." in joined.parts or not joined.is_relative_to(self.path):
            raise Invalid(f"{path} is not below {self.path}")
        return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """One runtime that runs, as ``<home>/run/<app-id>-<instance-id>.json`` says.

    Attributes:
        app_id: the app.
        namespace: where it lives.
        instance_id: unique for ever.
        pid: the runtime's process.
        started: :func:`pillion.process.process_start` of ``pid``.
        http_port: the local API; 0 when it listens on ``unix_socket`` only.
        grpc_port: told to the app.
        app_port: 0 when the app has no server.
        mesh_port: where other runtimes call.
        metrics_port: 0 when metrics are off.
        unix_socket: path of the local API's socket, or empty.
        command: what ``pillion run`` started beside the runtime.
        cli_pid: the process of ``pillion run``; 0 when there is none.
        cli_started: the mark of ``cli_pid``.
        app_pid: the app's process; 0 when it is not ours.
        app_started: the mark of ``app_pid``.
        created: seconds since the epoch.
        run_template: the multi-app file it came from, or empty.
    """

    app_id: str
    instance_id: str
    pid: int
    started: str
    namespace: str = "default"
    http_port: int = 0
    grpc_port: int = 0
    app_port: int = 0
    mesh_port: int = 0
    metrics_port: int = 0
    unix_socket: str = ""
    command: str = ""
    cli_pid: int = 0
    cli_started: str = ""
    app_pid: int = 0
    app_started: str = ""
    created: float = 0.0
    run_template: str = ""


def record(home: Home, run_file: RunFile) -> None:
    """Write or replace the run file.

    Raises:
        Invalid: the app id or the instance id is not a plain name.
        Unavailable: it cannot be written.
    """
    import msgspec

    home.directory("run")
    # Durability would buy nothing: after a power failure every run file is stale.
    home.write_private(_path(home, run_file), msgspec.json.encode(run_file), durable=False)


def forget(home: Home, run_file: RunFile) -> None:
    """Delete the run file; harmless when it is gone."""
    with suppress(OSError):
        _path(home, run_file).unlink()


def running(home: Home) -> list[RunFile]:
    """Return the runtimes that run, oldest first, and delete the run files of all others.

    A damaged file is logged and deleted too; one that cannot be read now is logged and left out.
    One that was written in another process id namespace of this machine is left alone, for those
    inside to judge.

    Raises:
        Invalid, Unavailable: the folder of run files cannot be used.
    """
    folder = home.directory("run")
    files.sweep(folder)
    found = []
    for path in folder.glob("*.json"):
        run_file = _read(home, path)
        if run_file is None:
            continue
        alive = same_process(run_file.pid, run_file.started)
        if alive:
            found.append(run_file)
        elif alive is False:
            with suppress(OSError):
                path.unlink()
    return sorted(found, key=lambda run_file: (run_file.created, run_file.instance_id))


def _read(home: Home, path: Path) -> RunFile | None:
    """Return what ``path`` says, or None when it is gone, unreadable, or damaged and deleted."""
    import msgspec

    try:
        return msgspec.json.decode(home.read_private(path, RUN_FILE_LIMIT), type=RunFile)
    except NotFound:
        return None
    except Unavailable as error:  # such as too many open files: says nothing about the runtime
        log.warning("%s", error)
        return None
    except (Invalid, msgspec.MsgspecError, ValueError) as error:
        log.warning("%s is not a run file and is deleted: %s", path, error)
        with suppress(OSError):
            path.unlink()
        return None


def _path(home: Home, run_file: RunFile) -> Path:
    return home.path / "run" / _plain(f"{run_file.app_id}-{run_file.instance_id}.json")


def _plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Invalid(f"{name!r} is not a plain name of a file or directory")
    return name


def _chosen(given: Path | None) -> Path:
    """Return the absolute path of the home, which need not exist."""
    try:
        if given is None:
            named = os.environ.get("PILLION_HOME", "")
            given = Path(named) if named else Path.home() / ".pillion"
        return Path(os.path.abspath(given.expanduser()))  # noqa: PTH100 - removes '..' as well
    except RuntimeError as error:
        raise Invalid("this user has no home directory; set PILLION_HOME to a folder") from error


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory)) + 1 + SOCKET_NAME_LIMIT <= SOCKET_PATH_LIMIT
