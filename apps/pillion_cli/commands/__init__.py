"""The commands of ``pillion``, one module each, found by listing this package.

A command module has ``NAME``, ``SUMMARY``, ``configure(parser)`` and ``run(args) -> int``. It
imports what it works with inside ``run``: the help of all commands imports all of them.
"""

from __future__ import annotations

import argparse
import pkgutil
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from pillion.errors import Invalid
from pillion.goflags import Parser
from pillion.nearest import did_you_mean


class Command(Protocol):
    """What a module of this package provides."""

    NAME: str
    SUMMARY: str

    def configure(self, parser: Parser) -> None:
        """Add flags, words and examples to the command's parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit status.

        Raises:
            Failure: it could not be done; Invalid when the person at the terminal is to blame.
        """


def names() -> list[str]:
    """Return the names of all commands, sorted."""
    return sorted(
        module.name.replace("_", "-")
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
    )


def load(name: str) -> Command:
    """Return the command called ``name``, importing no other.

    Raises:
        Invalid: there is none.
    """
    module = f"{__name__}.{name.replace('-', '_')}"
    if not name.replace("-", "").isalpha() or find_spec(module) is None:
        raise Invalid(f"there is no command {name!r}{did_you_mean(name, names())}")
    return cast("Command", import_module(module))


def parser_of(command: Command) -> Parser:
    """Return the command's parser."""
    parser = Parser(f"pillion {command.NAME}", command.SUMMARY)
    command.configure(parser)
    return parser
