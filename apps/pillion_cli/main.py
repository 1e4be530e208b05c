"""``pillion``: finds the command and turns its outcome into an exit status.

A sidecar is started often and its start-up is measured, so nothing is imported here that the
command at hand does not need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pillion import __version__

USAGE = """\
usage: pillion COMMAND [flags]

One small runtime process beside every app: calls between apps, under one policy pipeline.

commands:
{commands}

Start here:
  pillion demo                                  see it work
  pillion run --app-id hello -- python app.py   your app, with a runtime beside it
  pillion run -f dapr.yaml                      several apps
  pillion COMMAND --help                        flags and examples of one command
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``, by default that of this process; return the exit status.

    2 says that the command line was wrong, 1 that something else was.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("help", "-h", "-help", "--help"):
        return _help(args[1:])
    if args[0] in ("--version", "-version", "-V"):
        sys.stdout.write(f"pillion {__version__}\n")
        return 0
    try:
        return _run(args[0], args[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not fail on its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(name: str, args: list[str]) -> int:
    from pillion.errors import Failure, Invalid
    from pillion_cli.commands import load, parser_of

    label = "pillion"
    try:
        if name.startswith("-"):
            raise Invalid(f"{name} is not a flag of pillion itself; see pillion --help")
        command = load(name)
        label = f"pillion {name}"
        status = command.run(parser_of(command).parse(args))
        sys.stdout.flush()
    except Failure as failure:
        sys.stderr.write(f"{label}: {failure.message}\n")
        return 2 if isinstance(failure, Invalid) else 1
    return status


def _help(words: list[str]) -> int:
    if words:
        return _run(words[0], ["--help"])
    from pillion_cli.commands import load, names

    lines = [f"  {name:<12}{load(name).SUMMARY}" for name in names()]
    sys.stdout.write(USAGE.format(commands="\n".join(lines)))
    return 0
