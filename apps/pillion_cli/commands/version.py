"""``pillion version``."""

from __future__ import annotations

import argparse
import sys

from pillion import __version__
from pillion.goflags import Parser

NAME = "version"
SUMMARY = "Print the version."


def configure(parser: Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="text or json"
    )
    parser.add_examples(
        ("pillion version", "for people"),
        ("pillion version -o json", "for programs"),
    )


def run(args: argparse.Namespace) -> int:
    """Print it."""
    python = sys.version.split()[0]
    if args.output == "json":
        import json

        line = json.dumps({"version": __version__, "python": python, "platform": sys.platform})
    else:
        line = f"Pillion {__version__} (Python {python}, {sys.platform})"
    sys.stdout.write(line + "\n")
    return 0
