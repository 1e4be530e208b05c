"""The runtimes of this home that run, for the commands that look for one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pillion.errors import NotFound
from pillion.flags import BY_NAME, api_token
from pillion.goflags import Flag, Parser
from pillion.home import Home, RunFile, process_start, record, running
from pillion.localapi import LocalApi
from pillion.nearest import did_you_mean

HOME: Flag = BY_NAME["home"]


def add_home(parser: Parser) -> None:
    """Add ``--home``."""
    parser.add_flags([replace(HOME, group="options")])


def found(home: str | None) -> list[RunFile]:
    """Return what runs, oldest first.

    Raises:
        Invalid, Unavailable: the home cannot be used.
    """
    return running(Home.locate(Path(home) if home else None))


def named(app_id: str, known: Iterable[RunFile]) -> list[RunFile]:
    """Return the instances of one app.

    Raises:
        NotFound: it has none.
    """
    known = list(known)
    instances = [each for each in known if each.app_id == app_id]
    if not instances:
        hint = did_you_mean(app_id, sorted({each.app_id for each in known}))
        raise NotFound(f"no app {app_id!r} is running here{hint}")
    return instances


def api_of(instance: RunFile) -> LocalApi:
    """Return where an instance serves its local API."""
    return LocalApi(
        port=instance.http_port,
        socket=Path(instance.unix_socket) if instance.unix_socket else None,
        token=api_token(os.environ),
    )


def introduce(home: Path, *, runtime_pid: int, app_pid: int, run_template: str) -> None:
    """Note in a runtime's run file that this process started it, and an app beside it.

    Raises:
        Invalid, Unavailable: the home cannot be used.
    """
    located = Home.locate(home)
    for run_file in running(located):
        if run_file.pid == runtime_pid:
            noted = replace(
                run_file,
                cli_pid=os.getpid(),
                cli_started=process_start(os.getpid()) or "",
                app_pid=app_pid,
                app_started=process_start(app_pid) or "",
                run_template=run_template,
            )
            record(located, noted)
