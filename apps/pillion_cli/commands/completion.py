"""``pillion completion``: a script that teaches a shell our commands and flags."""

from __future__ import annotations

import argparse
import sys

from pillion.goflags import Parser

NAME = "completion"
SUMMARY = "Print a completion script for a shell."

SHELLS = ("bash", "zsh", "fish")


def configure(parser: Parser) -> None:
    """Add the words and examples."""
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    parser.add_examples(
        ("source <(pillion completion bash)", "in ~/.bashrc"),
        ("source <(pillion completion zsh)", "in ~/.zshrc, behind compinit"),
        ("pillion completion fish | source", "in ~/.config/fish/config.fish"),
    )


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from pillion_cli.shells import script

    sys.stdout.write(script(args.shell))
    return 0
