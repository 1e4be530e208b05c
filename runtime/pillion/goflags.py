"""Command lines in the style of Go programs, on top of argparse.

``-name`` and ``--name`` are the same flag, ``--name=value`` and ``--name value`` too, a switch
takes ``--name`` or ``--name=false``, names are never abbreviated, and a mistake is one line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pillion.errors import Invalid
from pillion.nearest import did_you_mean

WIDTH = 76
"""Columns of wrapped text in ``--help``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        name: without dashes.
        help: one phrase for ``--help``; where it is empty only the name is shown.
        default: as it would be typed; empty for none.
        read: turns the text into a value and raises Invalid when it is no such value.
        short: one letter, or empty.
        aliases: other names for the same flag.
        many: given several times, every value counts.
        metavar: what the value is called in ``--help``; empty for a switch.
        group: the heading it stands under in ``--help``.
        choices: the values there are, for shell completion.
    """

    name: str
    help: str
    default: str = ""
    read: Callable[[str], Any] = str
    short: str = ""
    aliases: tuple[str, ...] = ()
    many: bool = False
    metavar: str = "VALUE"
    group: str = "options"
    choices: tuple[str, ...] = ()

    @property
    def switch(self) -> bool:
        """True when it is on or off and needs no value."""
        return not self.metavar


class Parser(argparse.ArgumentParser):
    """One command's parser.

    Args:
        prog: what the person typed, such as ``pillion run``.
        summary: one sentence.

    Attributes:
        completions: values to offer for a flag or word, by its name in the namespace; an empty
            tuple offers file names.
        rest: where in the namespace the first plain word, or what follows ``--``, and all after
            it goes; empty when words are arguments of this command.
    """

    def __init__(self, prog: str, summary: str) -> None:
        super().__init__(
            prog=prog,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.completions: dict[str, tuple[str, ...]] = {}
        self.rest = ""
        self._headings: dict[str, Any] = {}

    def add_flags(self, flags: Iterable[Flag]) -> None:
        """Take ``flags``; each is None in the namespace unless it was given."""
        for flag in flags:
            heading = self._headings.get(flag.group)
            if heading is None:
                heading = self._headings[flag.group] = self.add_argument_group(flag.group)
            if not flag.help:
                heading.description = _append(heading.description or "", f"--{flag.name}")
            names = [f"-{flag.short}"] if flag.short else []
            names += [f"--{name}" for name in (flag.name, *flag.aliases)]
            default = f" (default {flag.default})" if flag.default not in ("", "false") else ""
            heading.add_argument(
                *names,
                dest=flag.name,
                action="append" if flag.many else "store",
                nargs="?" if flag.switch else None,
                const="true" if flag.switch else None,
                metavar=flag.metavar or "BOOL",
                help=flag.help + default if flag.help else argparse.SUPPRESS,
            )
            if flag.choices or flag.metavar in ("FOLDER", "FILE"):
                self.completions[flag.name] = flag.choices

    def add_examples(self, *examples: tuple[str, str]) -> None:
        """Show command lines, each with what it does, at the end of ``--help``."""
        lines = [f"  {line}\n      {meaning}" for line, meaning in examples]
        self.epilog = "\n".join(["examples:", *lines])

    def parse(self, args: Sequence[str]) -> argparse.Namespace:
        """Return the values.

        Raises:
            Invalid: an unknown flag, a missing value, a word that has no place.
        """
        own, rest = self._canonical(args)
        namespace, unknown = self.parse_known_args(own)
        if unknown:
            raise Invalid(f"unexpected argument {unknown[0]!r}")
        if self.rest:
            setattr(namespace, self.rest, rest)
        return namespace

    def error(self, message: str) -> NoReturn:
        """Raise Invalid where argparse would print its usage and exit."""
        raise Invalid(message.removeprefix("argument "))

    def _canonical(self, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return flags as ``--name=value`` beside plain words, and what belongs to ``rest``."""
        own: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                return (own, list(words)) if self.rest else ([*own, "--", *words], [])
            if word.startswith("-") and word != "-":
                own.append(self._flag(word, words))
            elif self.rest:
                return own, [word, *words]
            else:
                own.append(word)
        return own, []

    def _flag(self, word: str, following: Iterator[str]) -> str:
        """Return one flag as ``--name=value``; its value may be the word that follows."""
        name, action, value = self._find(word)
        if value is None and action.nargs == "?":
            value = "true"
        if value is None and action.nargs is None:
            value = next(following, None)
            if value is None:
                raise Invalid(f"{name} needs a value")
        return name if value is None else f"{name}={value}"

    def _find(self, word: str) -> tuple[str, argparse.Action, str | None]:
        typed, equals, value = word.partition("=")
        known = self._option_string_actions
        long = "--" + typed.lstrip("-")
        # A long name first: ``-app-id`` is Go's --app-id and not ``-a pp-id``.
        for name in (long, typed):
            if name in known:
                return _long_name(known[name]), known[name], value if equals else None
        longs = [name for name in known if name.startswith("--")]
        short = typed[:2]
        # ``-p8080`` is a short flag with its value; ``-app-prot`` is a long one misspelt.
        if short in known and not any(name.startswith(long[:5]) for name in longs):
            return _long_name(known[short]), known[short], word[2:]
        raise Invalid(f"unknown flag {typed}{did_you_mean(long, longs)}")


def _long_name(action: argparse.Action) -> str:
    return next(name for name in action.option_strings if name.startswith("--"))


def _append(lines: str, word: str) -> str:
    """Add a word to wrapped text."""
    last = lines.rpartition("\n")[2]
    if not lines:
        return word
    return f"{lines}{' ' if len(last) + len(word) < WIDTH else chr(10)}{word}"
