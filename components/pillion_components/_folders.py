"""Folders that belong to this user alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pillion.errors import Unavailable


def make_private(folder: Path) -> None:
    """Create ``folder`` and its missing parents with mode 0700; an existing one is left alone.

    Raises:
        Unavailable: it cannot be created.
    """
    missing = []
    probe = folder
    while not probe.exists():
        missing.append(probe)
        probe = probe.parent
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"cannot create the folder {folder}: {error.strerror}; check its owner or set "
            "PILLION_HOME to a folder that you own",
            reason="no-folder",
        ) from error


def require_private(folder: Path) -> None:
    """Check that nobody else can put files into ``folder``.

    Raises:
        Unavailable: it is a link, belongs to another user or is open to others.
    """
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.geteuid()
        or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ):
        raise Unavailable(
            f"the folder {folder} is not private to this user; remove it and start again",
            reason="folder-not-private",
        )
