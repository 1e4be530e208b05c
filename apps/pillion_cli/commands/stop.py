"""``pillion stop``: end apps and their runtimes in order."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pillion.errors import Invalid, NotFound, Unavailable
from pillion.goflags import Flag, Parser

if TYPE_CHECKING:
    from pillion.home import RunFile

NAME = "stop"
SUMMARY = "Stop apps that pillion run started, and runtimes."

TIMEOUT = 30.0
"""Seconds that what is stopped has to be gone."""

_POLL = 0.02


def configure(parser: Parser) -> None:
    """Add the words, flags and examples."""
    from pillion_cli.instances import add_home

    parser.usage = f"{parser.prog} APP... | -f FILE | --all"
    parser.add_argument("apps", metavar="APP", nargs="*", help="app ids; all instances are stopped")
    parser.add_argument(
        "-a", "--app-id", dest="more", action="append", default=[], metavar="ID", help="one of them"
    )
    parser.add_flags(
        [
            Flag(
                name="run-file",
                short="f",
                metavar="FILE",
                help="stop all apps of this run file",
            ),
            Flag(name="all", metavar="", help="stop all that runs here"),
        ]
    )
    add_home(parser)
    parser.add_examples(
        (
            "pillion stop orders",
            "the app orders, its runtime and the pillion run that started them",
        ),
        ("pillion stop -f dapr.yaml", "all apps of a run file"),
        ("pillion stop --all", "everything"),
    )


def run(args: argparse.Namespace) -> int:
    """Stop and wait until all of it is gone."""
    from pillion.flags import switched
    from pillion_cli import instances

    known = instances.found(args.home)
    apps = [*args.apps, *args.more]
    file = getattr(args, "run-file")
    if (bool(apps) + (file is not None) + switched(args.all)) != 1:
        raise Invalid("say what to stop: APP..., -f FILE or --all")
    if file is not None:
        chosen = _of_file(file, known)
    elif apps:
        chosen = [each for app in dict.fromkeys(apps) for each in instances.named(app, known)]
    else:
        chosen = known
    _stop(chosen, known)
    for each in chosen:
        sys.stdout.write(f"app stopped: {each.app_id}\n")
    if not chosen:
        sys.stdout.write("nothing runs here\n")
    return 0


def _of_file(file: str, known: Sequence[RunFile]) -> list[RunFile]:
    from pillion_cli import runfile

    path = str(runfile.locate(file) or "")
    chosen = [each for each in known if each.run_template == path]
    if not path:
        raise Invalid("a run file from standard input has no name: stop its apps by theirs")
    if not chosen:
        raise NotFound(f"no app of {path} is running here")
    return chosen


def _stop(chosen: Sequence[RunFile], known: Sequence[RunFile]) -> None:
    """Send SIGTERM once to each process concerned, and wait.

    Raises:
        Unavailable: something does not go away.
    """
    from pillion.process import same_process

    waiting: dict[tuple[int, str], RunFile] = {}
    for pid, mark, instance in _targets(chosen, known):
        if (pid, mark) not in waiting and same_process(pid, mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        waiting[pid, mark] = instance
        waiting[instance.pid, instance.started] = instance
    gone = _waited(lambda: not any(same_process(*key) for key in waiting))
    if not gone:
        left = ", ".join(
            f"{instance.app_id} (process {pid})"
            for (pid, mark), instance in waiting.items()
            if same_process(pid, mark)
        )
        raise Unavailable(f"still running after {TIMEOUT:g} seconds: {left}; kill it with kill -9")


def _targets(chosen: Sequence[RunFile], known: Sequence[RunFile]) -> list[tuple[int, str, RunFile]]:
    """Return which process to signal for each instance.

    It is the ``pillion run`` that started it, unless that one runs other apps, too, which are to
    go on; then it is the runtime, and the ``pillion run`` stops the app after it.
    """
    all_of = Counter((each.cli_pid, each.cli_started) for each in known)
    some_of = Counter((each.cli_pid, each.cli_started) for each in chosen)
    found = []
    for each in chosen:
        starter = (each.cli_pid, each.cli_started)
        whole = each.cli_pid and all_of[starter] == some_of[starter]
        found.append((*starter, each) if whole else (each.pid, each.started, each))
    return found


def _waited(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
