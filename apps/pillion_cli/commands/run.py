"""``pillion run``: an app with a runtime beside it, or several from a run file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pillion.errors import Invalid
from pillion.flags import FLAGS, given
from pillion.goflags import Flag, Parser

if TYPE_CHECKING:
    from pillion_cli.supervise.launch import Wanted

NAME = "run"
SUMMARY = "Run an app with a runtime beside it, or all apps of a run file."

FILE = Flag(
    name="run-file",
    short="f",
    metavar="FILE",
    help="start all apps of this run file (dapr.yaml); a folder that has one; - for standard input",
    group="what to run",
)
KUBERNETES = Flag(
    name="kubernetes", short="k", metavar="", help="not supported yet", group="what to run"
)
WITH_FILE = ("home",)
"""Flags that mean something beside a run file."""


def configure(parser: Parser) -> None:
    """Add the flags and examples."""
    parser.usage = f"{parser.prog} [flags] -- COMMAND [ARGUMENT...]\n       {parser.prog} -f FILE"
    parser.description = f"""{SUMMARY}

The app finds its runtime by DAPR_HTTP_PORT (PILLION_HTTP_PORT) and is told APP_ID and APP_PORT.
Ports that are not given are free ones, and the runtime listens on 127.0.0.1 only. Ctrl-C and
SIGTERM finish the calls in flight, then stop the app; a second Ctrl-C stops at once. The exit
status is the app's. A run file may start an app several times (instances: N); ports it fixes
count up from instance to instance."""
    parser.rest = "command"
    parser.add_flags((FILE, KUBERNETES))
    parser.add_flags(FLAGS)
    parser.add_examples(
        ("pillion run --app-id orders --app-port 8000 -- python orders.py", "an app with a server"),
        ("pillion run --app-id report -- python report.py", "a job that only makes calls"),
        (
            "pillion run -a orders -p 8001 --label version=v2 -- python orders.py",
            "another instance, with a label to route by",
        ),
        ("pillion run -f dapr.yaml", "all apps of a run file"),
    )


def run(args: argparse.Namespace) -> int:
    """Run until the app ends, or somebody ends it, and return its status."""
    # The guardian is a copy of this process: the less is loaded by now the smaller it is.
    from pillion_cli.supervise.guardian import Guardian
    from pillion_cli.supervise.launch import prepare

    launches = prepare(_wanted(args), os.environ)
    guardian = Guardian()
    try:
        from pillion_cli.supervise.supervisor import supervise

        return supervise(launches, guardian)
    finally:
        guardian.close()


def _wanted(args: argparse.Namespace) -> list[Wanted]:
    flags = given(args)
    if args.kubernetes is not None:
        raise Invalid("--kubernetes is not supported yet")
    file = getattr(args, FILE.name)
    if file is None:
        from pillion_cli.supervise.launch import Wanted

        return [Wanted(flags=flags, command=args.command, directory=Path.cwd())]
    if args.command:
        raise Invalid(f"a command ({args.command[0]!r}) and --run-file do not go together")
    for name in flags:
        if name not in WITH_FILE:
            raise Invalid(f"--{name} and --run-file do not go together: write it into the file")
    from pillion_cli import runfile

    wanted = runfile.read(file).wanted
    if "home" in flags:
        from dataclasses import replace

        home = [str(Path(flags["home"][-1]).expanduser().absolute())]
        wanted = [replace(each, flags={**each.flags, "home": home}) for each in wanted]
    return list(wanted)
