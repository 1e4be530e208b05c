"""``pillion components``: the component types there are, and new ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pillion.errors import Invalid
from pillion.goflags import Parser

NAME = "components"
SUMMARY = "List component types and their metadata, or begin a new one."

OUTPUTS = ("text", "json", "markdown")


def configure(parser: Parser) -> None:
    """Add the words, flags and examples."""
    parser.usage = f"{parser.prog} [TYPE | new KIND NAME] [flags]"
    parser.add_argument("words", metavar="TYPE", nargs="*", help="a type, or: new KIND NAME")
    parser.add_argument(
        "-o", "--output", choices=OUTPUTS, default="text", help="text, json or markdown"
    )
    parser.add_argument(
        "-d", "--directory", metavar="FOLDER", default="", help="where new writes the package"
    )
    parser.completions["words"] = ("new",)
    parser.add_examples(
        ("pillion components", "every type that is installed"),
        ("pillion components state.redis", "one type, with what each metadata key means"),
        ("pillion components -o json", "for programs"),
        ("pillion components new state acme", "a package with a working state.acme"),
    )


def run(args: argparse.Namespace) -> int:
    """Print them, or write a package."""
    words: list[str] = args.words
    if words[:1] == ["new"]:
        return _new(words[1:], args.directory)
    if len(words) > 1:
        raise Invalid(f"unexpected argument {words[1]!r}")
    if args.directory:
        raise Invalid("--directory is for pillion components new")
    sys.stdout.write(_shown(words, args.output))
    return 0


def _shown(words: list[str], output: str) -> str:
    from pillion_cli import component_types as types

    found = [types.one_type(words[0])] if words else types.all_types()
    if output == "json":
        import json

        rows = [types.as_json(one) for one in found]
        return json.dumps(rows[0] if words else rows, indent=2) + "\n"
    if output == "markdown":
        return types.markdown(found)
    return types.detail(found[0]) if words else types.table(found)


def _new(words: list[str], directory: str) -> int:
    from pillion_cli.component_scaffold import write

    if len(words) != 2:
        raise Invalid("new takes a kind and a name, such as: pillion components new state acme")
    kind, name = words
    folder = write(kind, name, Path(directory) if directory else None)
    sys.stdout.write(
        f"{folder} has a component of type {kind}.{name}. Next:\n"
        f"  pip install -e {folder}\n"
        f"  pillion components {kind}.{name}\n"
        f"  python -m pytest {folder}\n"
    )
    return 0
