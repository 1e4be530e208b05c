"""``pillion demo``: the sample system, watched, with one instance killed on the way."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pillion.errors import Invalid
from pillion.goflags import Flag

if TYPE_CHECKING:
    from pillion.goflags import Parser

NAME = "demo"
SUMMARY = "Run the sample system and watch it survive the death of an instance."

SECONDS = Flag(
    name="seconds",
    metavar="N",
    help="end after N seconds with a summary; without it, at Ctrl-C",
    group="demo",
)


def configure(parser: Parser) -> None:
    """Add the flags and examples."""
    parser.usage = f"{parser.prog} [--seconds N]"
    parser.description = f"""{SUMMARY}

Four runtimes ride beside four processes: a checkout (plain Python), two instances of orders (the
SDK) and a stock (Node.js where there is one). The checkout places orders without end; half-way
through, one instance of orders is killed with SIGKILL, app and runtime. The exit status is 0 if
and only if no order failed. Everything runs in a folder of its own and leaves nothing behind."""
    parser.add_flags((SECONDS,))
    parser.add_examples(
        ("pillion demo", "until Ctrl-C"),
        ("pillion demo --seconds 10", "for ten seconds, such as in a script"),
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo and return its exit status."""
    from pillion_cli.demo.show import show

    given = args.seconds
    if given is None:
        return show(None)
    try:
        seconds = float(given[-1] if isinstance(given, list) else given)
    except ValueError:
        seconds = 0.0
    if not 3 <= seconds <= 86_400:
        raise Invalid("--seconds must be a number from 3 to 86400")
    return show(seconds)
